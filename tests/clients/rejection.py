#!/usr/bin/env python3
"""Rejection notes that highdicom makes, against a running server.

usage: rejection.py BASE_URL     (the server must have features.enable_data_partition = true)

Each title gets a partition. The note is made of images that ship with pydicom, of two series; what
it names is hidden, whether the note comes after the images or before them, and is there again, byte
for byte, when the note is deleted.
"""

import io
import sys
import warnings
from pathlib import Path

import pydicom
import requests
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

warnings.simplefilter("ignore")
TITLES = [
    codes.DCM.RejectedForQualityReasons,
    codes.DCM.RejectedForPatientSafetyReasons,
    codes.DCM.IncorrectModalityWorklistEntry,
    codes.DCM.DataRetentionPolicyExpired,
]
FILE = "application/dicom; transfer-syntax=*"


def images():
    """Four images of one study, in two series."""
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
    study, series = generate_uid(), [generate_uid(), generate_uid()]
    made = []
    for number in range(4):
        ds = pydicom.dcmread(path)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series[number % 2]
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        made.append(ds)
    return made


def note(title, rejected):
    selection = KeyObjectSelection(document_title=title, referenced_objects=rejected)
    return KeyObjectSelectionDocument(
        evidence=rejected,
        content=selection,
        series_instance_uid=generate_uid(),
        series_number=99,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Collimator",
    )


def written(ds):
    out = io.BytesIO()
    ds.save_as(out)
    return out.getvalue()


def store(base, body):
    return requests.post(
        f"{base}/studies", data=body, headers={"Content-Type": "application/dicom"}, timeout=60
    )


def found(base):
    answer = requests.get(f"{base}/instances", timeout=60)
    if answer.status_code == 204:
        return set()
    return {one["00080018"]["Value"][0] for one in answer.json()}


def url(base, ds):
    study, series, instance = ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID
    return f"{base}/studies/{study}/series/{series}/instances/{instance}"


def run(base, title, note_first):
    all_of = images()
    bodies = [written(ds) for ds in all_of]
    rejected = all_of[:3]
    document = note(title, rejected)
    sent = [written(document), *bodies] if note_first else [*bodies, written(document)]
    for body in sent:
        answer = store(base, body)
        assert answer.status_code == 200, (answer.status_code, answer.text)
    left = {all_of[3].SOPInstanceUID, document.SOPInstanceUID}
    assert found(base) == left, f"{title.meaning}: {found(base)}"
    for ds in rejected:
        assert requests.get(url(base, ds), timeout=60).status_code == 410
    expired = title == codes.DCM.DataRetentionPolicyExpired
    if not expired:
        assert store(base, bodies[0]).status_code == 409
    assert requests.delete(url(base, document), timeout=60).status_code == 204
    for ds, body in zip(all_of, bodies):
        given = requests.get(url(base, ds), headers={"Accept": FILE}, timeout=60)
        assert given.status_code == 200 and given.content == body, title.meaning


def main():
    (base,) = sys.argv[1:]
    for title in TITLES:
        for note_first in (False, True):
            partition = f"{base}/partitions/iocm-{title.value}-{int(note_first)}"
            run(partition, title, note_first)
            print(f"{title.meaning}, the note {'first' if note_first else 'last'}: as it should be")


if __name__ == "__main__":
    main()
