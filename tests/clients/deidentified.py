#!/usr/bin/env python3
"""Every file that ships with pydicom, de-identified by a running server.

usage: deidentified.py BASE_URL FOLDER     (features.enable_data_partition = true, FOLDER the
                                            destination `out` of exports)

Each file that is stored is asked for with anonymize=yes, and exported de-identified as a File-set or
by its UIDs. What is given is read by pydicom to the last value, holds no name, identifier, UID or
date of the file outside of its pixel data, has the same pixels, and no error that dciodvfy (of
dicom3tools) does not find in the file that was sent. What is exported is the same, and nothing else
in the folder tells either: names, manifest, log of errors, DICOMDIR, which pydicom and DCMTK read.
How many were given and refused is said at the end; each goes to a partition of its own.
"""

import collections
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pydicom
import requests
from pydicom.fileset import FileSet

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


def errors(path):
    """The kinds of errors that the validator finds, by how often."""
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace").stderr
    kinds = (re.sub(r"<[^>]*>|[0-9.]{10,}", "", line) for line in said.splitlines())
    found = collections.Counter(kind for kind in kinds if kind.startswith("Error"))
    return None if any("read failed" in kind for kind in found) else found


def check_nothing_tells(stored, what, content):
    """No value of the file that was sent is in these bytes."""
    for text in set(telling(stored)) - COMMON:
        found = re.escape(text.encode("latin-1", "replace"))
        if text.isdigit():
            # Some digits alone, and not those within a UID.
            found = rb"(?<![0-9.])" + found + rb"(?![0-9.])"
        assert not re.search(found, content), f"{what}: {text!r} is left"


def outside_of_pixels(ds, content):
    return content[: content.rindex(b"\xe0\x7f\x10\x00O")] if "PixelData" in ds else content


def exported(here, folder, study, layout):
    """What an export, de-identified, came to: its results and its folder."""
    body = {
        "source": {"type": "identifiers", "settings": {"values": [study]}},
        "destination": {"type": "configured", "settings": {"name": "out", "layout": layout}},
        "deidentify": True,
    }
    answer = requests.post(f"{here}/export", json=body, timeout=60)
    assert answer.status_code == 202, answer.text[:300]
    href, deadline = answer.headers["Location"], time.monotonic() + 60
    while (answer := requests.get(href, timeout=60)).status_code == 202 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text[:300]}"
    done = answer.json()
    assert done["status"] == "succeeded", done
    at = Path(folder) / done["results"]["path"]
    # What served it alone is removed when it has ended.
    while any(at.glob(".lists/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return done, at


def check_export(here, folder, name, stored, given, layout):
    """`given`: what Retrieve gave, in the syntax in which it is exported; nothing where it refused."""
    done, at = exported(here, folder, stored.StudyInstanceUID, layout)
    counts = (done["results"]["exported"], done["results"]["refused"])
    check_nothing_tells(stored, f"{name}: operation", json.dumps(done).encode())
    if given is None:
        assert counts == (0, 1), f"{name}: {counts}"
    else:
        assert counts == (1, 0), f"{name}: {counts}"
    written = [path for path in at.rglob("*") if path.is_file()]
    lists = sorted(path.name for path in written if path.suffix in (".ndjson", ".log"))
    assert lists == ["errors.log", "manifest.ndjson"], f"{name}: {lists}"
    for path in written:
        inside = path.relative_to(at)
        check_nothing_tells(stored, f"{name}: {inside}", str(inside).encode())
        content = path.read_bytes()
        if path.suffix in (".ndjson", ".log"):
            check_nothing_tells(stored, f"{name}: {inside}", content)
            continue
        ds = pydicom.dcmread(path)
        walk(ds)
        check_nothing_tells(stored, f"{name}: {inside}", outside_of_pixels(ds, content))
        assert path.name == "DICOMDIR" or content == given, f"{name}: not what is retrieved"
    instances = len(written) - len(lists) - (layout == "dicom")
    assert instances == counts[0], f"{name}: {instances} files"
    if layout == "dicom":
        directory = at / "results" / "DICOMDIR"
        dump = subprocess.run(["dcmdump", directory], capture_output=True, text=True, errors="replace")
        assert dump.returncode == 0 and not dump.stderr, f"{name}: {dump.stderr[:300]}"
        files = FileSet(directory)
        assert len(files) == counts[0], f"{name}: {len(files)} in the DICOMDIR"
        for file in files:
            assert file.load().SOPInstanceUID == file.SOPInstanceUID, name


def check(base, folder, number, path):
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
    layout = ["as-is", "dicom"][number % 2]
    syntax = stored.file_meta.get("TransferSyntaxUID")
    if syntax and syntax.is_encapsulated:
        query["transferSyntax"] = syntax
    answer = requests.get(f"{here}/wado", params=query, timeout=60)
    if answer.status_code == 406:
        check_export(here, folder, path.name, stored, None, layout)
        return "refused"
    assert answer.status_code == 200, f"{path.name}: {answer.status_code} {answer.text[:300]}"
    given = pydicom.dcmread(io.BytesIO(answer.content))
    walk(given)
    assert given.PatientIdentityRemoved == "YES", path.name
    if "PixelData" in given and syntax == given.file_meta.TransferSyntaxUID:
        assert given.PixelData == stored.PixelData.ljust(len(given.PixelData), b"\0"), path.name
    check_nothing_tells(stored, path.name, outside_of_pixels(given, answer.content))
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(answer.content)
        file.flush()
        before, after = errors(path), errors(file.name)
    if before is not None and path.name not in WITHOUT_SEQUENCE:
        assert after is not None and not after - before, f"{path.name}: {after - before}"
    check_export(here, folder, path.name, stored, answer.content, layout)
    return "given"


def main():
    base, folder = sys.argv[1].rstrip("/"), sys.argv[2]
    counts, failures = collections.Counter(), []
    for number, path in enumerate(sorted(p for p in DATA.iterdir() if p.is_file())):
        try:
            counts[check(base, folder, number, path)] += 1
        except AssertionError as failure:
            failures.append(failure)
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    for failure in failures:
        print("FAILED", failure)
    sys.exit(bool(failures) or counts["given"] < 25)


if __name__ == "__main__":
    main()
