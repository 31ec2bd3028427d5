#!/usr/bin/env python3
"""How fast many files go in and out: import, export, bulk update.

usage: throughput.py BINARY FOLDER [FILES] [PIXELS]

Makes FILES (30000) CT images of PIXELS × PIXELS (64) below FOLDER, in studies of a hundred and a
folder for each series, and has the binary (a release build) import them twice, export all of them as
they are, as a File-set and de-identified, and change the patient's name of all studies. Everything is
counted afterwards: nothing may be missing. FOLDER is removed again.
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import requests
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

IN_STUDY, IN_SERIES = 100, 50
ROOT = "1.2.826.0.1.3680043.8.498"


def template(pixels):
    """A file whose study, series and instance are numbers of fixed length."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{ROOT}.7000001.8000001.9000001"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.7000001", f"{ROOT}.7000001.8000001"
    ds.PatientID, ds.PatientName, ds.PatientBirthDate = "PAT7000001", "Doe^Jane", "19700101"
    ds.PatientSex, ds.StudyDate, ds.StudyTime, ds.StudyID = "F", "20240131", "101500", "1"
    ds.SeriesDate, ds.AcquisitionDate, ds.ContentDate = "20240131", "20240131", "20240131"
    ds.SeriesTime, ds.AcquisitionTime, ds.ContentTime = "101501", "101502", "101503"
    ds.AccessionNumber, ds.Modality, ds.ImageType = "A7000001", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer, ds.InstitutionName = "Maker", "Hospital of Somewhere"
    ds.ReferringPhysicianName, ds.StudyDescription = "Smith^John", "CT Thorax"
    ds.SeriesDescription, ds.BodyPartExamined, ds.KVP = "Lung 1.0", "CHEST", "120"
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 1, "9000001", 1
    ds.FrameOfReferenceUID = f"{ROOT}.7000001.6"
    ds.PositionReferenceIndicator, ds.SliceThickness = "", "1"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = pixels
    ds.PixelSpacing, ds.BitsAllocated, ds.BitsStored, ds.HighBit = [0.7, 0.7], 16, 16, 15
    ds.PixelRepresentation, ds.RescaleIntercept, ds.RescaleSlope = 0, "-1024", "1"
    ds.PixelData = os.urandom(2 * pixels * pixels)
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def make(folder, files, pixels):
    one = template(pixels)
    for number in range(files):
        study, series = number // IN_STUDY, number // IN_SERIES
        dir = folder / f"{study:05}" / f"{series:05}"
        if number % IN_SERIES == 0:
            dir.mkdir(parents=True)
        file = one.replace(b"7000001", b"%d" % (7000001 + study))
        file = file.replace(b"8000001", b"%d" % (8000001 + series))
        (dir / f"{number:07}.dcm").write_bytes(file.replace(b"9000001", b"%d" % (9000001 + number)))
    return files * len(one)


def told(what, files, size, seconds):
    print(f"{what:<34}{files / seconds:8.0f} files/s {size / seconds / 1e6:7.1f} MB/s {seconds:7.1f} s", flush=True)


def command(binary, data, files, size, what, *arguments):
    begun = time.monotonic()
    done = subprocess.run([binary, *arguments, "--data-dir", data], capture_output=True, text=True)
    told(what, files, size, time.monotonic() - begun)
    assert done.returncode == 0, f"{what}: {done.returncode} {done.stdout} {done.stderr}"
    return done.stdout


def exported(binary, data, folder, files, size, what, *more):
    to = folder / "out"
    command(binary, data, files, size, what, "export", to, "--query", "", *more)
    lines = (to / "manifest.ndjson").read_text().splitlines()
    assert len({json.loads(line)["sopInstanceUid"] for line in lines}) == files, what
    assert sum(1 for path in (to / "results").rglob("*") if path.is_file() and path.name != "DICOMDIR") == files
    shutil.rmtree(to)


def updated(base, files, size):
    """All studies get another patient's name, fifty at a time."""
    studies = [f"{ROOT}.{7000001 + study}" for study in range((files + IN_STUDY - 1) // IN_STUDY)]
    change = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Roe^Richard"}]}}
    begun, operations, done = time.monotonic(), [], 0
    for at in range(0, len(studies), 50):
        body = {"studyInstanceUids": studies[at : at + 50], "changeDataset": change}
        answer = requests.post(f"{base}/studies/$bulkUpdate", json=body, timeout=60)
        assert answer.status_code == 202, answer.text
        operations.append(answer.headers["Location"])
    for href in operations:
        while (answer := requests.get(href, timeout=60)).status_code != 200:
            time.sleep(0.2)
        assert answer.json()["status"] == "succeeded", answer.text
        done += answer.json()["results"]["instanceUpdated"]
    told("bulk update of a name", files, size, time.monotonic() - begun)
    assert done == files, done


def main():
    binary, folder = sys.argv[1], Path(sys.argv[2])
    files, pixels = (int(number) for number in (sys.argv[3:] + ["30000", "64"][len(sys.argv) - 3 :]))
    folder.mkdir()
    data, heap = folder / "data", folder / "heap"
    size = make(heap, files, pixels)
    print(f"{files} files, {size / files / 1e3:.1f} kB each")
    arguments = [binary, "serve", "--data-dir", data, "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        base = next(match[1] for line in server.stdout if (match := re.match(r" *DICOMweb +(\S+)", line)))
        while requests.get(base.split("/v")[0] + "/health/ready", timeout=60).status_code != 200:
            time.sleep(0.1)
        assert f"{files} stored" in command(binary, data, files, size, "import", "import", heap)
        again = command(binary, data, files, size, "import, all there already", "import", heap)
        assert f"{files} there already" in again, again
        shutil.rmtree(heap)
        exported(binary, data, folder, files, size, "export as it is")
        exported(binary, data, folder, files, size, "export as a File-set", "--layout", "dicom")
        exported(binary, data, folder, files, size, "export de-identified", "--deidentify")
        updated(base, files, size)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
