#!/usr/bin/env python3
"""Stores a series of a dozen slices, as a viewer is going to show it.

usage: viewer.py DICOMWEB_ROOT     prints the Study Instance UID and the patient's name

Made from pydicom's CT_small.dcm: each slice lies elsewhere in space and shows something else.
"""

import io
import sys
from pathlib import Path

import numpy
import pydicom
import requests

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
STUDY = "1.2.826.0.1.3680043.8.498.1"
NAME = "Viewer^Case"
SLICES = 12


def main(root):
    for number in range(1, SLICES + 1):
        ds = pydicom.dcmread(DATA / "CT_small.dcm")
        ds.PatientName, ds.PatientID = NAME, "viewer"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, f"{STUDY}.1"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.1.{number}"
        ds.StudyDate, ds.InstanceNumber = "20240102", number
        x, y, _ = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y, float(5 * number)]
        ds.SliceLocation = float(5 * number)
        pixels = numpy.roll(ds.pixel_array, 6 * number, axis=1)
        ds.PixelData = pixels.astype("<i2").tobytes()
        file = io.BytesIO()
        ds.save_as(file)
        answer = requests.post(
            f"{root}/studies",
            data=file.getvalue(),
            headers={"Content-Type": "application/dicom"},
            timeout=60,
        )
        assert answer.status_code in (200, 202), (answer.status_code, answer.text)
    print(STUDY, NAME)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
