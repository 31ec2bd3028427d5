"""pydicom's DICOM JSON of a data set, brought to a form in which it can be compared.

pydicom's own `to_json_dict` is the reference; what is normalised here is only what Annex F of
PS3.18 leaves open or what is merely spelling: numbers against their text, empty against absent.
"""

import base64
import math

from pydicom._private_dict import private_dictionaries

# Implicit VR does not tell the VR of private elements. pydicom guesses it from a dictionary of its
# own; the standard says UN.
private_dictionaries.clear()


def model(ds):
    """pydicom's JSON of `ds`, its text decoded to UTF-8, all binary values inline."""
    out = {}
    for tag in sorted(ds.keys()):
        if tag.element == 0:
            continue
        key = f"{tag:08X}"
        try:
            out[key] = attribute(key, ds[tag])
        except ValueError:
            # A number that is none: pydicom refuses it, Annex F lets it stand as text.
            out[key] = {"vr": ds[tag].VR, "Value": [str(ds[tag].value).strip()]}
    return out


def attribute(key, element):
    if key == "7FE00010":
        return {"vr": element.VR}
    if element.VR == "SQ":
        return {"vr": "SQ", "Value": [model(item) for item in element.value]}
    return element.to_json_dict(None, 1 << 62)


def normalise(data_set):
    """Both sides in one spelling; pixel data and the character set itself are left out."""
    out = {}
    for tag, attribute in data_set.items():
        vr = attribute["vr"]
        if tag in ("00080005", "7FE00010"):
            continue
        if vr == "SQ":
            out[tag] = ("SQ", [normalise(item) for item in attribute.get("Value", [])])
        elif "InlineBinary" in attribute:
            raw = base64.b64decode(attribute["InlineBinary"] or "")
            out[tag] = ("binary", raw + b"\0" * (len(raw) % 2))
        else:
            values = [value_of(vr, value) for value in attribute.get("Value", [])]
            while values and values[-1] in (None, ""):
                values.pop()
            out[tag] = ("binary", b"") if vr.startswith("O") or vr == "UN" else (vr, values)
    return out


def value_of(vr, value):
    if value is None or value == "":
        return None
    if vr == "PN":
        groups = value if isinstance(value, dict) else {"Alphabetic": value}
        return {k: v.rstrip("^ ") for k, v in groups.items() if v and v.rstrip("^ ")} or None
    if vr in ("DS", "IS", "FL", "FD", "SV", "UV", "US", "SS", "UL", "SL"):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return str(value).strip()
        return "nan" if math.isnan(number) else number
    return value.rstrip(" \0") if isinstance(value, str) else value
