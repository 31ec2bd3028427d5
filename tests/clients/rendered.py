#!/usr/bin/env python3
"""Rendered images of a running server against DCMTK's dcmj2pnm: at most one grey level apart.

usage: rendered.py BASE_URL     (the server must have features.enable_data_partition = true)

Every file of pydicom that dcmj2pnm can show, and variants of some (MONOCHROME1, other windows): by
the object's own window, by a given one, and colour as it is. The mean absolute difference of each
picture must not exceed one grey level, or the file is named in NOT_RENDERED_ALIKE with the reason.
"""

import io
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import imagecodecs
import numpy
import pydicom
import requests

from corpus import DATA, Failure, check, files, number_of_frames
from expected import NOT_COMPARED, NOT_RENDERED_ALIKE, UNDECODED
from pixels import store, with_uids

warnings.simplefilter("ignore")
WORST = 1.0


def dcmtk(file, options, frame):
    """The picture that DCMTK makes, or None where it makes none."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "picture.pnm"
        command = ["dcmj2pnm", "--quiet", "--write-raw-pnm", "--frame", str(frame), *options, str(file), str(target)]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        if done.returncode != 0 or not target.exists():
            return None
        picture = target.read_bytes()
        kind, columns, rows = picture.split(maxsplit=3)[:3]
        pixels = numpy.frombuffer(picture, "u1")
        shape = (int(rows), int(columns)) + ((3,) if kind == b"P6" else ())
        return pixels[-numpy.prod(shape):].reshape(shape)


def ours(url, frame, window):
    params = {"window": window} if window else {}
    got = requests.get(f"{url}/frames/{frame}/rendered", params=params, headers={"Accept": "image/png"}, timeout=60)
    check(got.status_code == 200, f"rendered: {got.status_code} {got.text[:300]}")
    check(got.headers["Content-Type"] == "image/png", got.headers["Content-Type"])
    return imagecodecs.png_decode(got.content)


def compare(url, file, frame, options, window, what):
    theirs = dcmtk(file, options, frame)
    if theirs is None:
        return None
    mine = ours(url, frame, window)
    if theirs.ndim == 3 and mine.ndim == 2:
        mine = numpy.repeat(mine[:, :, None], 3, axis=2)
    if mine.ndim == 3 and theirs.ndim == 2:
        theirs = numpy.repeat(theirs[:, :, None], 3, axis=2)
    check(mine.shape == theirs.shape, f"{what}: shape {mine.shape}, DCMTK {theirs.shape}")
    away = numpy.abs(mine.astype("i2") - theirs.astype("i2")).mean()
    check(away <= WORST, f"{what}: mean absolute difference {away:.2f}")
    return away


def variants():
    """(name, data set): every file, and what has too few examples among them."""
    for path in files():
        name = path.relative_to(DATA).as_posix()
        if name in NOT_COMPARED or name in UNDECODED:
            continue
        try:
            ds = pydicom.dcmread(path, force=True)
            if "PixelData" not in ds:
                continue
            with_uids(ds)
        except Exception:  # noqa: BLE001 - no data set at all
            continue
        yield name, ds
        if path.name in ("CT_small.dcm", "MR_small.dcm"):
            inverted = pydicom.dcmread(path)
            inverted.PhotometricInterpretation = "MONOCHROME1"
            yield f"{name} as MONOCHROME1", inverted
            sloped = pydicom.dcmread(path)
            sloped.RescaleSlope, sloped.RescaleIntercept = "0.5", "100"
            yield f"{name} with another slope", sloped


def main(base):
    failures, compared, worst = [], 0, 0.0
    for number, (name, ds) in enumerate(variants()):
        try:
            body = io.BytesIO()
            ds.save_as(body, enforce_file_format=True)
        except Exception:  # noqa: BLE001 - pydicom reads it, but cannot write it
            continue
        with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
            file.write(body.getvalue())
            file.flush()
            try:
                url = store(f"{base}/partitions/rendered-{number}", body.getvalue())
                cases = []
                if ds.SamplesPerPixel == 1 and ds.PhotometricInterpretation != "PALETTE COLOR":
                    if ds.get("WindowCenter") not in (None, "") and ds.get("WindowWidth"):
                        cases.append((["+Wi", "1"], None, "own window"))
                    if ds.BitsAllocated >= 8:
                        cases.append((["+Ww", "100", "300"], "100,300,linear", "window 100,300"))
                else:
                    cases.append(([], None, "colour"))
                for frame in {1, number_of_frames(ds)}:
                    for options, window, what in cases:
                        try:
                            away = compare(url, file.name, frame, options, window, f"frame {frame}, {what}")
                        except Failure:
                            if name in NOT_RENDERED_ALIKE:
                                continue
                            raise
                        if away is not None:
                            compared += 1
                            worst = max(worst, away)
            except Failure as failure:
                failures.append(name)
                print(f"FAILED {name}: {failure}")
    print(f"rendered: {compared} pictures compared with dcmj2pnm, mean difference at most {worst:.2f}, {len(failures)} failed")
    if compared < 120:
        print("too few were compared for the run to mean anything")
    sys.exit(1 if failures or compared < 120 else 0)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
