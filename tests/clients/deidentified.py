#!/usr/bin/env python3
"""Every file that ships with pydicom, de-identified by a running server.

usage: deidentified.py BASE_URL [DCIODVFY]     (features.enable_data_partition = true)

Each file that is stored is asked for with anonymize=yes. What is given is read by pydicom to the
last value, holds no name, identifier, UID or date of the file outside of its pixel data, has the
same pixels, and, where dciodvfy (of dicom3tools) is given, no error that the file has not. How many
were given and refused is said at the end; each goes to a partition of its own.
"""

import collections
import io
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pydicom
import requests

warnings.simplefilter("ignore")
DATA = Path(pydicom.__file__).parent / "data" / "test_files"
# Values that are identifying wherever they stand.
IDENTIFYING = {
    "PatientID", "AccessionNumber", "StudyID", "InstitutionAddress", "DeviceSerialNumber",
    "OtherPatientIDs", "PatientAddress", "PatientComments", "PatientBirthDate",
}
# Names of institutions that are those of manufacturers, too, and words of other values.
COMMON = {"TOSHIBA"}
# A sequence that came as UN of defined length is removed, though the class needs it.
WITHOUT_SEQUENCE = {"rtdose_rle.dcm", "rtdose_rle_1frame.dcm"}


def telling(ds):
    """Texts of a data set that must be nowhere."""
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from telling(item)
            continue
        values = element.value
        if not isinstance(values, (list, pydicom.multival.MultiValue)):
            values = [values]
        for text in map(str, values):
            if element.VR == "PN":
                yield from (part for part in re.split(r"[\^= ]", text) if len(part) > 3)
            elif element.VR == "UI" and len(text) > 6 and not text.startswith("1.2.840.10008."):
                yield text
            elif element.VR == "DA" and len(text) == 8:
                yield text
            elif element.keyword in IDENTIFYING and len(text) > 3:
                yield text


def walk(ds):
    for element in ds:
        for item in element.value if element.VR == "SQ" else []:
            walk(item)


def errors(dciodvfy, path):
    """The kinds of errors that the validator finds, by how often."""
    said = subprocess.run([dciodvfy, path], capture_output=True, text=True, errors="replace").stderr
    kinds = (re.sub(r"<[^>]*>|[0-9.]{10,}", "", line) for line in said.splitlines())
    found = collections.Counter(kind for kind in kinds if kind.startswith("Error"))
    return None if any("read failed" in kind for kind in found) else found


def check(base, number, path, dciodvfy):
    body = path.read_bytes()
    here = f"{base}/partitions/deid{number}"
    kind = {"Content-Type": "application/dicom", "Accept": "application/dicom+json"}
    answer = requests.post(f"{here}/studies", data=body, headers=kind, timeout=60)
    if answer.status_code not in (200, 202):
        return "not stored"
    stored = pydicom.dcmread(path, force=True)
    query = {
        "requestType": "WADO", "contentType": "application/dicom", "anonymize": "yes",
        "studyUID": stored.StudyInstanceUID, "seriesUID": stored.SeriesInstanceUID,
        "objectUID": stored.SOPInstanceUID,
    }
    syntax = stored.file_meta.get("TransferSyntaxUID")
    if syntax and syntax.is_encapsulated:
        query["transferSyntax"] = syntax
    answer = requests.get(f"{here}/wado", params=query, timeout=60)
    if answer.status_code == 406:
        return "refused"
    assert answer.status_code == 200, f"{path.name}: {answer.status_code} {answer.text[:300]}"
    given = pydicom.dcmread(io.BytesIO(answer.content))
    walk(given)
    assert given.PatientIdentityRemoved == "YES", path.name
    head = answer.content
    if "PixelData" in given:
        head = head[: head.rindex(b"\xe0\x7f\x10\x00O")]
        if syntax == given.file_meta.TransferSyntaxUID:
            assert given.PixelData == stored.PixelData.ljust(len(given.PixelData), b"\0"), path.name
    for text in set(telling(stored)) - COMMON:
        assert text.encode("latin-1", "replace") not in head, f"{path.name}: {text!r} is left"
    if dciodvfy:
        with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
            file.write(answer.content)
            file.flush()
            before, after = errors(dciodvfy, path), errors(dciodvfy, file.name)
        if before is not None and path.name not in WITHOUT_SEQUENCE:
            assert after is not None and not after - before, f"{path.name}: {after - before}"
    return "given"


def main():
    base, dciodvfy = sys.argv[1].rstrip("/"), sys.argv[2] if len(sys.argv) > 2 else None
    counts, failures = collections.Counter(), []
    for number, path in enumerate(sorted(p for p in DATA.iterdir() if p.is_file())):
        try:
            counts[check(base, number, path, dciodvfy)] += 1
        except AssertionError as failure:
            failures.append(failure)
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    for failure in failures:
        print("FAILED", failure)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
