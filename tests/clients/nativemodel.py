"""The Native DICOM Model (PS3.19 A.1) of a data set, read strictly and compared with its JSON.

`read` turns a document into JSON and refuses what the schema of PS3.19 A.1.6 does not allow;
`expected` says what the DICOM JSON of the same data set must become there. Numbers are compared as
they are written.
"""

import re
import xml.etree.ElementTree as ET

NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
SPACE = "{http://www.w3.org/XML/1998/namespace}space"
GROUPS = ["Alphabetic", "Ideographic", "Phonetic"]
COMPONENTS = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"]
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Invalid(Exception):
    pass


def demand(condition, what):
    if not condition:
        raise Invalid(what)


def read(document):
    root = ET.fromstring(document)
    demand(root.tag == NAMESPACE + "NativeDicomModel", root.tag)
    demand(root.attrib == {SPACE: "preserve"}, root.attrib)
    return data_set(root)


def name(element):
    demand(element.tag.startswith(NAMESPACE), element.tag)
    return element.tag[len(NAMESPACE) :]


def only(element, *attributes):
    demand(set(element.attrib) == set(attributes), f"{element.tag} {element.attrib}")


def no_text(element):
    texts = [element.text] + [child.tail for child in element]
    demand(not any(texts), f"text in {element.tag}")


def data_set(element):
    no_text(element)
    found = {}
    for child in element:
        demand(name(child) == "DicomAttribute", child.tag)
        known = set(child.attrib) - {"keyword", "privateCreator"}
        demand(known == {"tag", "vr"}, child.attrib)
        tag, creator = child.get("tag"), child.get("privateCreator")
        demand(re.fullmatch("[0-9A-F]{8}", tag) and re.fullmatch("[A-Z]{2}", child.get("vr")), tag)
        demand(creator is None or (int(tag[3], 16) % 2 and tag[4:6] == "00"), f"{tag} {creator}")
        key = (tag, creator)
        demand(key not in found, f"{key} twice")
        found[key] = (child.get("vr"), content(child))
    return found


def content(attribute):
    no_text(attribute)
    kinds = {name(child) for child in attribute}
    demand(len(kinds) <= 1, kinds)
    values = []
    for number, child in enumerate(attribute, 1):
        kind = name(child)
        if kind in ("BulkData", "InlineBinary"):
            demand(len(attribute) == 1, f"several {kind}")
            only(child, *(["uri"] if kind == "BulkData" else []))
            return (kind, child.get("uri") or child.text)
        only(child, "number")
        demand(child.get("number") == str(number), f"number {child.get('number')}")
        if kind == "Value":
            demand(len(child) == 0, "elements in a Value")
            values.append(child.text or "")
        elif kind == "Item":
            values.append(data_set(child))
        else:
            demand(kind == "PersonName", kind)
            values.append(person(child))
    return values


def person(element):
    no_text(element)
    found = {}
    for group in element:
        only(group)
        no_text(group)
        demand(name(group) in GROUPS and name(group) not in found, group.tag)
        parts = [name(part) for part in group]
        demand(parts == [part for part in COMPONENTS if part in parts], parts)
        found[name(group)] = {name(part): part.text for part in group}
    return found


def expected(ours):
    """What the JSON of a data set must become. Numbers must be read as text."""
    creators = {
        key: attribute["Value"][0]
        for key, attribute in ours.items()
        if int(key[3], 16) % 2
        and key[4:6] == "00"
        and int(key[6:], 16) >= 0x10
        and attribute["vr"] == "LO"
        and attribute.get("Value", [None])[0]
    }
    out = {}
    for key, attribute in ours.items():
        if key in creators:
            continue
        creator = creators.get(f"{key[:4]}00{key[4:6]}")
        tag = f"{key[:4]}00{key[6:]}" if creator else key
        out[(tag, creator and plain(creator))] = (attribute["vr"], values(attribute))
    return out


def plain(text):
    return NOT_XML.sub("\ufffd", text)


def values(attribute):
    for kind, key in (("BulkData", "BulkDataURI"), ("InlineBinary", "InlineBinary")):
        if key in attribute:
            return (kind, attribute[key])
    if attribute["vr"] == "SQ":
        return [expected(item) for item in attribute.get("Value", [])]
    if attribute["vr"] == "PN":
        return [groups(value or {}) for value in attribute.get("Value", [])]
    return ["" if value is None else plain(value) for value in attribute.get("Value", [])]


def groups(value):
    return {
        group: {c: plain(t) for c, t in zip(COMPONENTS, value[group].split("^", 4)) if t}
        for group in GROUPS
        if group in value
    }
