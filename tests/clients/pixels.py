#!/usr/bin/env python3
"""Pixels of every file that ships with pydicom, decoded and re-encoded by a running server, against
pydicom with pylibjpeg.

usage: pixels.py BASE_URL     (the server must have features.enable_data_partition = true)

For every file with pixel data:
- its frames, asked for as Explicit VR Little Endian, equal those that pydicom decodes: bit for bit
  for lossless syntaxes, within TOLERANCE for lossy ones; or the file is named in UNDECODED with the
  reason, and then the answer is a 406 that says what can be had;
- the instance, asked for as Explicit VR Little Endian, is a file that pydicom reads as the same
  pixels, and whose attributes describe them.
For one file of each kind, TARGETS: the instance in each other syntax is one that independent
decoders read as the same pixels.
"""

import io
import sys
import warnings
from pathlib import Path

import imagecodecs
import numpy
import pydicom
import requests
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian

from corpus import DATA, Failure, check, files, multipart, number_of_frames
from expected import NOT_COMPARED, UNDECODED

warnings.simplefilter("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4."
LOSSY = {JPEG + n for n in ("50", "51", "81", "91", "93", "203", "112")}
DCT = {JPEG + "50", JPEG + "51"}
# Mean and greatest absolute difference, in steps of the stored depth brought to 8 bits: decoders of
# the DCT differ in rounding, and in how they spread sub-sampled chroma.
TOLERANCE = {JPEG + "50": (1.0, 48), JPEG + "51": (1.0, 48), JPEG + "81": (0, 0)}
LOSSY_TOLERANCE = (0.6, 3)

# (target, whether every bit is kept)
TARGETS = [
    ("1.2.840.10008.1.2.1", True),
    ("1.2.840.10008.1.2.1.98", True),
    ("1.2.840.10008.1.2.5", True),
    ("1.2.840.10008.1.2.8.1", True),
    (JPEG + "57", True),
    (JPEG + "70", True),
    (JPEG + "80", True),
    (JPEG + "81", False),
    (JPEG + "90", True),
    (JPEG + "91", False),
    (JPEG + "110", True),
    (JPEG + "201", True),
    (JPEG + "202", True),
    (JPEG + "203", False),
    (JPEG + "50", False),
]
SOURCES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "examples_rgb_color.dcm",
    "SC_ybr_full_uncompressed.dcm",
    "examples_palette.dcm",
    "examples_ybr_color.dcm",
    "examples_overlay.dcm",
    "MR_small_jp2klossless.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
]
# What a target cannot hold: (source, target) -> a 406 is right.
IMPOSSIBLE = {("examples_palette.dcm", JPEG + n) for n in ("81", "91", "203")} | {
    (source, JPEG + "50")
    for source in ("CT_small.dcm", "MR_small.dcm", "MR_small_jp2klossless.dcm", "examples_palette.dcm",
                   "examples_overlay.dcm")
}


def with_uids(ds):
    """Files made to try a decoder lack what an archive needs."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not ds.get(keyword):
            setattr(ds, keyword, pydicom.uid.generate_uid(entropy_srcs=[keyword, str(ds.get("SOPInstanceUID"))]))
    if not ds.get("SOPClassUID"):
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"


def store(base, body):
    answer = requests.post(
        f"{base}/studies", data=body, headers={"Content-Type": "application/dicom"}, timeout=60
    )
    check(answer.status_code in (200, 202), f"store: {answer.status_code} {answer.text[:300]}")
    return answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]


def reference(ds, syntax, index):
    """The frame as pydicom decodes it, and what its photometric interpretation is then."""
    if syntax in (JPEG + "110", JPEG + "111", JPEG + "112"):
        stream = list(generate_frames(ds.PixelData, number_of_frames=number_of_frames(ds)))[index]
        return imagecodecs.jpegxl_decode(stream)
    if syntax == "1.2.840.10008.1.2.8.1":
        import zlib

        stream = list(generate_frames(ds.PixelData, number_of_frames=number_of_frames(ds)))[index]
        return native(ds, zlib.decompressobj(-15).decompress(stream))
    if syntax == "1.2.840.10008.1.2.1.98":
        stream = list(generate_frames(ds.PixelData, number_of_frames=number_of_frames(ds)))[index]
        return native(ds, stream)
    plugin = "pylibjpeg" if UID(syntax).is_encapsulated else ""
    # pydicom brings YBR to RGB unless told otherwise; only the DCT needs that here.
    raw = syntax not in DCT
    decoder = get_decoder(UID(syntax))
    return decoder.as_array(ds, index=index, raw=raw, decoding_plugin=plugin)[0]


def native(ds, frame):
    if ds.BitsAllocated == 1:
        bits = numpy.unpackbits(numpy.frombuffer(frame, "u1"), bitorder="little")
        return bits[: ds.Rows * ds.Columns].reshape(ds.Rows, ds.Columns)
    kind = "i" if ds.PixelRepresentation else "u"
    array = numpy.frombuffer(frame, f"<{kind}{ds.BitsAllocated // 8}")
    array = array[: ds.Rows * ds.Columns * ds.SamplesPerPixel]
    if ds.SamplesPerPixel == 1:
        return array.reshape(ds.Rows, ds.Columns)
    if ds.PlanarConfiguration:
        return array.reshape(ds.SamplesPerPixel, ds.Rows, ds.Columns).transpose(1, 2, 0)
    return array.reshape(ds.Rows, ds.Columns, ds.SamplesPerPixel)


def difference(ours, theirs, bits, tolerance):
    check(ours.shape == theirs.shape, f"shape {ours.shape}, expected {theirs.shape}")
    if tolerance is None:
        same = numpy.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
        if not same:
            away = numpy.abs(ours.astype("f8") - theirs.astype("f8"))
            raise Failure(f"{numpy.count_nonzero(away)} samples differ, by up to {away.max()}")
        return
    away = numpy.abs(ours.astype("f8") - theirs.astype("f8")) / 2 ** max(0, bits - 8)
    check(
        away.mean() <= tolerance[0] and away.max() <= tolerance[1],
        f"mean difference {away.mean():.3f}, greatest {away.max():.0f}, at most {tolerance}",
    )


def check_decoded(url, ds, syntax):
    """Frames and instance as Explicit VR Little Endian against pydicom."""
    count = number_of_frames(ds)
    tolerance = TOLERANCE.get(syntax, LOSSY_TOLERANCE if syntax in LOSSY else None)
    accept = {"Accept": f"application/dicom; transfer-syntax={EXPLICIT}"}
    got = requests.get(url, headers=accept, timeout=120)
    check(got.status_code == 200, f"instance: {got.status_code} {got.text[:300]}")
    copy = pydicom.dcmread(io.BytesIO(got.content))
    check(copy.file_meta.TransferSyntaxUID == EXPLICIT, "the syntax of the copy")
    check(copy.SOPInstanceUID == ds.SOPInstanceUID, "decoding must not make a new instance")
    numbers = ",".join(str(n + 1) for n in range(count))
    accept = {"Accept": 'multipart/related; type="application/octet-stream"'}
    got = requests.get(f"{url}/frames/{numbers}", headers=accept, timeout=120)
    check(got.status_code == 200, f"frames: {got.status_code} {got.text[:300]}")
    parts = list(multipart(got))
    check(len(parts) == count, f"{len(parts)} frames, expected {count}")
    if "Content-Length" in got.headers:
        check(int(got.headers["Content-Length"]) == len(got.content), "Content-Length")
    for index, (head, part) in enumerate(parts):
        check(f"transfer-syntax={EXPLICIT}" in head, f"labelled {head}")
        if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
            kind = "<f4" if "FloatPixelData" in ds else "<f8"
            shape = (ds.Rows, ds.Columns)
            ours = numpy.frombuffer(part, kind).reshape(shape)
        elif copy.PhotometricInterpretation == "YBR_FULL_422" or copy.BitsAllocated == 1:
            ours = get_decoder(ExplicitVRLittleEndian).as_array(copy, index=index, raw=True)[0]
        else:
            ours = native(copy, part)
            again = get_decoder(ExplicitVRLittleEndian).as_array(copy, index=index, raw=True)[0]
            check(numpy.array_equal(ours, again), "the frame and the copy's frame differ")
        difference(ours, reference(ds, syntax, index), ds.BitsStored if "BitsStored" in ds else 8, tolerance)


def check_targets(url, ds, name):
    """The instance in every other syntax, read by independent decoders."""
    accept = {"Accept": f"application/dicom; transfer-syntax={EXPLICIT}"}
    plain = pydicom.dcmread(io.BytesIO(requests.get(url, headers=accept, timeout=120).content))
    made = 0
    for target, lossless in TARGETS:
        where = f"as {target}: "
        accept = {"Accept": f"application/dicom; transfer-syntax={target}"}
        got = requests.get(url, headers=accept, timeout=120)
        if (name, target) in IMPOSSIBLE:
            check(got.status_code == 406, f"{where}{got.status_code}, expected 406")
            continue
        check(got.status_code == 200, f"{where}{got.status_code} {got.text[:300]}")
        copy = pydicom.dcmread(io.BytesIO(got.content))
        check(copy.file_meta.TransferSyntaxUID == target, f"{where}the File Meta Information says {copy.file_meta.TransferSyntaxUID}")
        check(copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID, f"{where}the UIDs of the file disagree")
        check(number_of_frames(copy) == number_of_frames(plain), f"{where}number of frames")
        stored_as = str(ds.file_meta.TransferSyntaxUID)
        if stored_as == target:
            continue
        if lossless:
            check(copy.SOPInstanceUID == ds.SOPInstanceUID, f"{where}a new UID for the same pixels")
            check(copy.get("LossyImageCompression") == ds.get("LossyImageCompression"), f"{where}(0028,2110)")
        else:
            check(copy.SOPInstanceUID != ds.SOPInstanceUID, f"{where}lossy, under the old UID")
            check(copy.LossyImageCompression == "01", f"{where}(0028,2110) is not 01")
            check(copy.LossyImageCompressionMethod and copy.LossyImageCompressionRatio, f"{where}method and ratio")
            check(copy.ImageType[0] == "DERIVED", f"{where}(0008,0008) is not DERIVED")
        for index in range(number_of_frames(plain)):
            want = get_decoder(ExplicitVRLittleEndian).as_array(plain, index=index, raw=True)[0]
            have = reference(copy, target, index)
            try:
                difference(have, want, plain.BitsStored, None if lossless else (3.0, 96))
            except Failure as failure:
                raise Failure(f"{where}frame {index + 1}: {failure}") from None
        made += 1
    return made


def main(base):
    failures, compared, refused, made = [], 0, 0, 0
    for number, path in enumerate(files()):
        name = path.relative_to(DATA).as_posix()
        try:
            ds = pydicom.dcmread(path, force=True)
            if not any(k in ds for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
                continue
            if name in NOT_COMPARED:
                continue
            with_uids(ds)
            file = io.BytesIO()
            ds.save_as(file, enforce_file_format=True)
        except Exception:  # noqa: BLE001 - no image that pydicom can write
            continue
        try:
            url = store(f"{base}/partitions/pixels-{number}", file.getvalue())
            ds = pydicom.dcmread(io.BytesIO(file.getvalue()))
            syntax = str(ds.file_meta.TransferSyntaxUID)
            if name in UNDECODED:
                accept = {"Accept": f"application/octet-stream; transfer-syntax={EXPLICIT}"}
                got = requests.get(f"{url}/frames/1", headers=accept, timeout=60)
                check(got.status_code == 406, f"{got.status_code}, expected 406: {UNDECODED[name]}")
                check(syntax in got.text, "the 406 does not say what can be had")
                refused += 1
            else:
                check_decoded(url, ds, syntax)
                compared += 1
                if path.name in SOURCES:
                    made += check_targets(url, ds, path.name)
        except Failure as failure:
            failures.append(name)
            print(f"FAILED {name}: {failure}")
        except Exception as error:  # noqa: BLE001 - name the file, whatever went wrong
            failures.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {error}")
    print(f"pixels: {compared} files equal, {refused} refused as expected, {made} re-encoded copies equal, {len(failures)} failed")
    if compared < 95 or made < 95:
        print("too few were compared for the run to mean anything")
    sys.exit(1 if failures or compared < 95 or made < 95 else 0)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
