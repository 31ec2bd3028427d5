#!/usr/bin/env python3
"""Round trip of every DICOM file that ships with pydicom, against a running server.

usage: corpus.py BASE_URL     (the server must have features.enable_data_partition = true)

Each file is either stored, and then the bytes come back identical, every frame equals the one that
pydicom finds, every bulk value can be fetched, and the metadata agrees with pydicom's own JSON; or
it is refused, and then it is named in REFUSED with the reason that is right for it. Each file goes
to a partition of its own, because variants of one image share their UIDs.
"""

import io
import json
import sys
import warnings
from pathlib import Path

import pydicom
import requests
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from expected import BARE, DIFFERENT_JSON, REFUSED
from jsonmodel import model, normalise
import nativemodel

warnings.simplefilter("ignore")
DATA = Path(pydicom.__file__).parent / "data"
DICOM_JSON = "application/dicom+json"


def files():
    """Every file of the package that could be an instance, in a stable order."""
    for folder in ("test_files", "charset_files", "palettes"):
        for path in sorted((DATA / folder).rglob("*")):
            if path.is_file():
                yield path


class Failure(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


def store(base, body):
    return requests.post(
        f"{base}/studies",
        data=body,
        headers={"Content-Type": "application/dicom", "Accept": DICOM_JSON},
        timeout=60,
    )


def check_refused(name, answer, expected):
    reason, words = expected
    check(answer.status_code == 409, f"status {answer.status_code}, expected 409")
    body = answer.json()
    items = body.get("00081198", body.get("0008119A"))["Value"]
    got = items[0]["00081197"]["Value"][0]
    check(got == reason, f"reason {got:#06x}, expected {reason:#06x}")
    comments = json.dumps(items)
    check(words in comments, f"{words!r} is not in {comments}")


def check_stored(base, path, body, answer):
    check(answer.status_code in (200, 202), f"status {answer.status_code}: {answer.text[:500]}")
    item = answer.json()["00081199"]["Value"][0]
    url = item["00081190"]["Value"][0]
    check(answer.headers["Content-Type"] == DICOM_JSON, "content type of the store response")

    got = requests.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=60)
    check(got.status_code == 200, f"retrieve: {got.status_code} {got.text[:300]}")
    if path.relative_to(DATA).as_posix() in BARE:
        # A data set without the header of a file is given out with one.
        check(got.content[128:132] == b"DICM", "no Part 10 header was added")
        check(got.content.endswith(body), "the retrieved data set differs")
    else:
        check(got.content == body, "the retrieved bytes differ")

    ds = pydicom.dcmread(io.BytesIO(got.content))
    syntax = ds.file_meta.TransferSyntaxUID
    check_frames(url, ds, syntax)
    check_metadata(url, path, ds)
    check_explicit(url, ds, syntax)
    check_search(base, ds)


def pydicom_frames(ds, syntax):
    """The frames as pydicom cuts them, in little endian; None without pixel data."""
    if "PixelData" not in ds:
        return None
    count = number_of_frames(ds)
    if syntax.is_encapsulated:
        return list(generate_frames(ds.PixelData, number_of_frames=count))
    bits = ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated
    if ds.PhotometricInterpretation == "YBR_FULL_422":
        bits = bits * 2 // 3
    data = ds.PixelData
    if syntax == pydicom.uid.ExplicitVRBigEndian and ds["PixelData"].VR == "OW":
        # By the letter words of 16 bits; but samples of 32 are written, and read, whole.
        unit = max(2, ds.BitsAllocated // 8)
        data = b"".join(data[i : i + unit][::-1] for i in range(0, len(data), unit))
    check(len(data) * 8 >= bits * count, "pydicom has too few pixels")
    check(bits % 8 == 0, "a frame that is no whole number of bytes needs its own comparison")
    step = bits // 8
    return [data[i * step : (i + 1) * step] for i in range(count)]


def number_of_frames(ds):
    try:
        return int(ds.get("NumberOfFrames") or 1)
    except ValueError:
        # badVR.dcm says "1A".
        return 1


def check_frames(url, ds, syntax):
    frames = pydicom_frames(ds, syntax)
    accept = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
    if frames is None:
        got = requests.get(f"{url}/frames/1", headers={"Accept": accept}, timeout=60)
        check(got.status_code == 404, f"frame of an object without pixels: {got.status_code}")
        return
    numbers = ",".join(str(n + 1) for n in range(len(frames)))
    got = requests.get(f"{url}/frames/{numbers}", headers={"Accept": accept}, timeout=60)
    check(got.status_code == 200, f"frames: {got.status_code} {got.text[:300]}")
    parts = list(multipart(got))
    check(len(parts) == len(frames), f"{len(parts)} frames, pydicom has {len(frames)}")
    for number, ((_, part), frame) in enumerate(zip(parts, frames), 1):
        check(same_frame(part, frame), f"frame {number} differs ({len(part)}, {len(frame)} bytes)")
    beyond = requests.get(f"{url}/frames/{len(frames) + 1}", headers={"Accept": accept}, timeout=60)
    check(beyond.status_code == 404, f"a frame beyond the last: {beyond.status_code}")


def same_frame(part, frame):
    # The padding byte of an odd compressed frame belongs to the fragment, not to the frame; both
    # ways of counting are seen.
    return part == frame or part + b"\0" == frame


def multipart(answer):
    """The parts of a multipart/related answer: (headers, body)."""
    boundary = answer.headers["Content-Type"].split("boundary=")[1].split(";")[0].strip('"')
    for part in answer.content.split(b"--" + boundary.encode())[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        yield head.decode(), body[: -len(b"\r\n")]


def check_metadata(url, path, ds):
    got = requests.get(f"{url}/metadata", headers={"Accept": DICOM_JSON}, timeout=60)
    check(got.status_code == 200, f"metadata: {got.status_code} {got.text[:300]}")
    (ours,) = got.json()
    check(list(ours) == sorted(ours), "attributes are not in ascending order")
    ours = normalise(resolve(ours, ds))
    theirs = normalise(model(ds))
    different = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    known = set(DIFFERENT_JSON.get(path.relative_to(DATA).as_posix(), {}))
    lines = [f"{k}: ours {str(ours.get(k))[:300]} pydicom {str(theirs.get(k))[:300]}" for k in sorted(different ^ known)]
    check(different == known, "metadata differs:\n    " + "\n    ".join(lines))
    check_xml(f"{url}/metadata", got.text)


def check_xml(url, text):
    """The Native DICOM Model says what the JSON says, in the order in which that says it."""
    (ours,) = json.loads(text, parse_int=str, parse_float=str)
    got = requests.get(url, headers={"Accept": "application/dicom+xml"}, timeout=60)
    check(got.status_code == 200, f"metadata as XML: {got.status_code} {got.text[:300]}")
    found, wanted = nativemodel.read(got.content), nativemodel.expected(ours)
    different = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
    lines = [f"{k}: XML {str(found.get(k))[:300]} JSON {str(wanted.get(k))[:300]}" for k in different]
    check(not different, "the XML differs from the JSON:\n    " + "\n    ".join(lines))
    check(list(found) == list(wanted), "the XML has another order than the JSON")


def resolve(ours, ds):
    """Puts the bytes of every BulkDataURI in its place, so that they are compared as well."""
    import base64

    resolved = {}
    for key, attribute in ours.items():
        attribute = dict(attribute)
        if "BulkDataURI" in attribute and key not in ("7FE00010",):
            accept = {"Accept": "application/octet-stream, */*;q=0.1"}
            got = requests.get(attribute.pop("BulkDataURI"), headers=accept, timeout=60)
            check(got.status_code == 200, f"bulk value {key}: {got.status_code} {got.text[:300]}")
            attribute["InlineBinary"] = base64.b64encode(got.content).decode()
        elif key == "7FE00010":
            uri = attribute.get("BulkDataURI")
            if uri:
                got = requests.get(uri, timeout=60)
                check(got.status_code == 200, f"pixel data: {got.status_code} {got.text[:300]}")
        elif attribute["vr"] == "SQ":
            attribute["Value"] = [resolve(item, ds) for item in attribute.get("Value", [])]
        resolved[key] = attribute
    return resolved


def check_explicit(url, ds, syntax):
    """Explicit VR Little Endian from any uncompressed syntax. (pixels.py has the others.)"""
    if syntax.is_encapsulated:
        return
    accept = {"Accept": "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"}
    got = requests.get(url, headers=accept, timeout=60)
    check(got.status_code == 200, f"explicit: {got.status_code} {got.text[:300]}")
    again = pydicom.dcmread(io.BytesIO(got.content))
    check(again.file_meta.TransferSyntaxUID == UID("1.2.840.10008.1.2.1"), "the syntax of the copy")
    ours, theirs = normalise(model(again)), normalise(model(ds))
    different = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
    lines = [f"{k}: ours {str(ours.get(k))[:200]} stored {str(theirs.get(k))[:200]}" for k in different]
    check(not different, "the re-encoded data set differs:\n    " + "\n    ".join(lines))


def check_search(base, ds):
    got = requests.get(f"{base}/instances", params={"SOPInstanceUID": ds.SOPInstanceUID}, timeout=60)
    check(got.status_code == 200, f"search: {got.status_code}")
    check(len(got.json()) == 1, "search does not find the one instance")


def main(base):
    failures, stored, refused = [], 0, 0
    for number, path in enumerate(files()):
        name = path.relative_to(DATA).as_posix()
        partition = f"{base}/partitions/corpus-{number}"
        body = path.read_bytes()
        try:
            answer = store(partition, body)
            if name in REFUSED:
                check_refused(name, answer, REFUSED[name])
                refused += 1
            else:
                check_stored(partition, path, body, answer)
                stored += 1
        except Failure as failure:
            failures.append(name)
            print(f"FAILED {name}: {failure}")
        except Exception as error:  # noqa: BLE001 - name the file, whatever went wrong
            failures.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {error}")
    missing = set(REFUSED) - {path.relative_to(DATA).as_posix() for path in files()}
    print(f"corpus: {stored} stored, {refused} refused as expected, {len(failures)} failed")
    if missing:
        print(f"not in this pydicom any more: {sorted(missing)}")
    if stored < 150:
        print("too few files were stored for the run to mean anything")
    sys.exit(1 if failures or missing or stored < 150 else 0)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
