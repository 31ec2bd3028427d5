#!/usr/bin/env python3
"""Coercion of every DICOM file that ships with pydicom, against a running server.

usage: coercion.py --rules      what store.coerce must be
       coercion.py BASE_URL     (the server must have features.enable_data_partition = true)

What comes back has the attributes that the rules make, an Original Attributes Sequence with those
that were there before, and everything else as it was, byte for byte by pydicom's reading; and
dciodvfy finds no error in it that it does not find in the file that was sent.
"""

import io
import sys
import tempfile
import warnings
from pathlib import Path

import pydicom
import requests

from corpus import DATA, Failure, check, files, store
from dciodvfy import errors
from expected import BARE

warnings.simplefilter("ignore")
# Where there was nothing of the equipment, its name alone would be half a module.
RULES = (
    '[{ when = { InstitutionName = "?*" }, set = { InstitutionName = "North" } }, '
    '{ source = "Elsewhere", prefix = { PatientID = "N-" }, issuer_of_patient_id = "NORTH", '
    'set = { EthnicGroup = "none" }, remove = ["PatientComments"] }]'
)
EDITED = ["InstitutionName", "PatientID", "IssuerOfPatientID", "EthnicGroup", "PatientComments"]
ORIGINAL = "OriginalAttributesSequence"
COERCED = {"vr": "US", "Value": [0xB000]}


def read(body):
    return pydicom.dcmread(io.BytesIO(body), force=True)


def text(ds, keyword):
    value = ds.get(keyword)
    return None if value is None else str(value).strip()


def check_values(before, after, item):
    patient = text(before, "PatientID")
    institution = "North" if text(before, "InstitutionName") else text(before, "InstitutionName")
    check(text(after, "InstitutionName") == institution, "InstitutionName is wrong")
    check(text(after, "EthnicGroup") == "none", "EthnicGroup was not set")
    check("PatientComments" not in after, "PatientComments is still there")
    expected = f"N-{patient}" if patient and not patient.startswith("N-") else patient
    check(text(after, "PatientID") == expected, f"PatientID is {text(after, 'PatientID')!r}")
    if patient:
        issuer = text(before, "IssuerOfPatientID") or "NORTH"
        check(text(after, "IssuerOfPatientID") == issuer, "IssuerOfPatientID is wrong")
    modified = item.ModifiedAttributesSequence[0]
    for keyword in EDITED:
        old = text(before, keyword)
        if old is not None and old != text(after, keyword):
            check(text(modified, keyword) == old, f"the previous {keyword} is not kept")


def check_rest(before, after):
    """All that no rule names is as it was."""
    named = {pydicom.datadict.tag_for_keyword(keyword) for keyword in [*EDITED, ORIGINAL]}
    for element in before:
        if element.tag in named or element.tag.element == 0:
            continue
        check(element.tag in after, f"{element.tag} is gone")
        check(element == after[element.tag], f"{element.tag} changed")
    added = {element.tag for element in after} - {element.tag for element in before} - named
    check(not added, f"{sorted(added)} came from nowhere")


def try_file(base, path, folder):
    body = path.read_bytes()
    answer = store(base, body)
    if answer.status_code == 409:
        return False
    check(answer.status_code == 202, f"status {answer.status_code}")
    told = answer.json()["00081199"]["Value"][0]
    check(told["00081196"] == COERCED, f"the warning is {told.get('00081196')}")
    accept = "application/dicom; transfer-syntax=*"
    given = requests.get(told["00081190"]["Value"][0], headers={"Accept": accept}, timeout=60)
    check(given.status_code == 200, f"Retrieve answered {given.status_code}")
    before, after = read(body), read(given.content)
    check_values(before, after, after[ORIGINAL].value[-1])
    check_rest(before, after)
    check(store(base, body).status_code == 202, "a re-send is not recognised")
    # One without File Meta Information is given out with it: other bytes.
    if str(path.relative_to(DATA)) not in BARE:
        again = store(base, given.content)
        check(again.status_code in (200, 202), "what was given is not recognised")
        told = again.json()["00081199"]["Value"][0]
        check(told.get("00081196") != COERCED, "what was given is coerced again")
    # By the same name: dciodvfy says it.
    same = folder / "file.dcm"
    same.write_bytes(body)
    known = errors(same)
    same.write_bytes(given.content)
    new = errors(same) - known
    check(not new, f"dciodvfy finds: {'; '.join(sorted(new))}")
    return True


def main():
    if sys.argv[1] == "--rules":
        print(RULES)
        return
    base, coerced, wrong = sys.argv[1], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(files()):
            try:
                coerced += try_file(f"{base}/partitions/coerce{number}", path, Path(folder))
            except (Failure, KeyError) as failure:
                wrong += 1
                print(f"{path.relative_to(DATA)}: {failure}")
    print(f"{coerced} files coerced, {wrong} wrong")
    if wrong or coerced < 100:
        sys.exit(1)


main()
