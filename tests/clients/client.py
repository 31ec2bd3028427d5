#!/usr/bin/env python3
"""All that dicomweb-client offers, against a running server.

usage: client.py BASE_URL     (the server must have features.enable_data_partition = true)

Two patients, three studies, six series, native and compressed, grey and in colour, one and several frames:
each call of the client's API, with each of its parameters, on what was stored by it.
"""

import io
import logging
import sys
from pathlib import Path

import numpy as np
import pydicom
from dicomweb_client.api import DICOMwebClient
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, UID
from requests import HTTPError

# It logs each Warning header, such as that there is more behind a page.
logging.disable(logging.WARNING)
DATA = Path(pydicom.__file__).parent / "data" / "test_files"
ROOT = "1.2.826.0.1.3680043.8.498.9"
# Study, series, how many instances; the first two studies are of one patient.
FILES = {
    "CT_small.dcm": (1, 1, 5),
    "MR_small.dcm": (1, 2, 3),
    "SC_rgb_rle_2frame.dcm": (1, 3, 1),
    "JPEG2000.dcm": (2, 1, 1),
    "examples_ybr_color.dcm": (2, 2, 1),
    "rtplan.dcm": (3, 1, 2),
}
NAMES = {1: ("P1", "Müller^Jörg"), 2: ("P1", "Müller^Jörg"), 3: ("P2", "Doe^Jane")}
AS_STORED = (("application/dicom", "*"),)
PLAIN = (("application/dicom", "1.2.840.10008.1.2.1"),)
OCTETS = (("application/octet-stream", "*"),)
BULK = ("application/octet-stream",)


def instances():
    made = []
    for name, (study, series, count) in FILES.items():
        for number in range(1, count + 1):
            ds = pydicom.dcmread(DATA / name)
            ds.SpecificCharacterSet = "ISO_IR 100"
            ds.PatientID, ds.PatientName = NAMES[study]
            ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.{study}", f"{ROOT}.{study}.{series}"
            ds.SOPInstanceUID = f"{ROOT}.{study}.{series}.{number}"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.InstanceNumber, ds.StudyDate, ds.StudyDescription = number, f"2020010{study}", f"Study {study}"
            made.append(ds)
    return made


def uids(ds):
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


def values(found, key):
    return [one[key]["Value"][0] for one in found]


def pixels_of(ds):
    """As they are stored, without any conversion."""
    return pixel_array(ds, raw=True)


def is_exact(ds):
    """Whether every decoder has to make the same of it; what others are is for pixels.py."""
    return ds.file_meta.TransferSyntaxUID not in (JPEGBaseline8Bit, JPEG2000)


def names(found):
    """SOP Instance UIDs of data sets."""
    return sorted(ds.SOPInstanceUID for ds in found)


def of(sent, study, series=None):
    return [
        ds
        for ds in sent
        if ds.StudyInstanceUID == f"{ROOT}.{study}"
        and series in (None, int(ds.SeriesInstanceUID.rsplit(".", 1)[1]))
    ]


def refused(status, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except HTTPError as error:
        assert error.response.status_code == status, (error.response.status_code, status)
    else:
        raise AssertionError(f"expected {status}")


def store(client, sent):
    for study in (1, 2):
        told = client.store_instances(of(sent, study), study_instance_uid=f"{ROOT}.{study}")
        assert len(told.ReferencedSOPSequence) == len(of(sent, study)), told
        assert "FailedSOPSequence" not in told
        assert told.RetrieveURL.endswith(f"/studies/{ROOT}.{study}")
    client.store_instances(of(sent, 3))
    # Of two for one study the one of another is refused, and the other is there already.
    told = client.store_instances([sent[0], of(sent, 3)[0]], study_instance_uid=f"{ROOT}.1")
    assert names_of(told.ReferencedSOPSequence) == [sent[0].SOPInstanceUID]
    assert names_of(told.FailedSOPSequence) == [of(sent, 3)[0].SOPInstanceUID]


def names_of(items):
    return [item.ReferencedSOPInstanceUID for item in items]


def search(client, sent):
    everything = client.search_for_studies()
    assert sorted(values(everything, "0020000D")) == [f"{ROOT}.{study}" for study in (1, 2, 3)]
    # By pages.
    pages = [client.search_for_instances(limit=4, offset=offset) for offset in range(0, 16, 4)]
    found = [uid for page in pages for uid in values(page, "00080018")]
    assert [len(page) for page in pages] == [4, 4, 4, 1], [len(page) for page in pages]
    assert sorted(found) == names(sent)
    assert len(client.search_for_instances(limit=4, get_remaining=True)) == len(sent)
    assert len(client.search_for_series(limit=2, get_remaining=True)) == len(FILES)
    assert len(client.search_for_studies(limit=1, offset=1, get_remaining=True)) == 2
    # Below something.
    assert len(client.search_for_series(f"{ROOT}.1")) == 3
    assert len(client.search_for_instances(f"{ROOT}.1")) == 9
    assert len(client.search_for_instances(f"{ROOT}.1", f"{ROOT}.1.1")) == 5
    assert client.search_for_instances(f"{ROOT}.9") == []
    # By values, and by several together.
    matches = {
        ("PatientID", "P1"): 2,
        ("PatientName", "Müller*"): 2,
        ("PatientName", "*^Jane"): 1,
        ("StudyDate", "20200102-20200103"): 2,
        ("StudyDescription", "Study ?"): 3,
        ("00100020", "P2"): 1,
        ("ModalitiesInStudy", "MR"): 1,
    }
    for (key, value), count in matches.items():
        found = client.search_for_studies(search_filters={key: value})
        assert len(found) == count, (key, value, len(found))
    both = {"PatientID": "P1", "StudyDate": "20200102"}
    assert values(client.search_for_studies(search_filters=both), "0020000D") == [f"{ROOT}.2"]
    for modality in {ds.Modality for ds in sent}:
        found = client.search_for_series(search_filters={"Modality": modality})
        expected = {ds.SeriesInstanceUID for ds in sent if ds.Modality == modality}
        assert sorted(values(found, "0020000E")) == sorted(expected), modality
    numbered = client.search_for_instances(f"{ROOT}.1", f"{ROOT}.1.1", search_filters={"InstanceNumber": 3})
    assert values(numbered, "00080018") == [f"{ROOT}.1.1.3"]
    # Names as they sound and begin.
    for name, fuzzy, count in [("muller jo", True, 2), ("muler", True, 2), ("jo", True, 2), ("muller jo", False, 0)]:
        found = client.search_for_studies(fuzzymatching=fuzzy, search_filters={"PatientName": name})
        assert len(found) == count, (name, fuzzy, len(found))
    # Attributes that are told when they are asked for.
    (plain, *_) = client.search_for_instances(f"{ROOT}.1", f"{ROOT}.1.1", limit=1)
    fields = ["PixelSpacing", "00281053", "KVP"]
    (more, *_) = client.search_for_instances(f"{ROOT}.1", f"{ROOT}.1.1", limit=1, fields=fields)
    assert "00280030" not in plain and more["00280030"]["Value"] == [0.661468, 0.661468]
    assert {"00281053", "00180060"} <= set(more)
    (every,) = client.search_for_instances(limit=1, fields=["all"])
    assert len(every) > len(plain)
    refused(400, client.search_for_studies, additional_params={"limit": "many"})


def retrieve(client, sent):
    for ds in sent:
        again = client.retrieve_instance(*uids(ds), media_types=AS_STORED)
        assert again == ds and again.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID, uids(ds)
        plain = client.retrieve_instance(*uids(ds), media_types=PLAIN)
        assert plain.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1", uids(ds)
        if "PixelData" in ds:
            assert pixels_of(plain).shape == pixels_of(ds).shape
            assert not is_exact(ds) or np.array_equal(pixels_of(plain), pixels_of(ds)), uids(ds)
    for study, series in {(1, None), (2, None), (3, None)} | {of_file[:2] for of_file in FILES.values()}:
        expected = of(sent, study, series)
        path = [f"{ROOT}.{study}", *([f"{ROOT}.{study}.{series}"] if series else [])]
        get, each, metadata = (
            (client.retrieve_series, client.iter_series, client.retrieve_series_metadata)
            if series
            else (client.retrieve_study, client.iter_study, client.retrieve_study_metadata)
        )
        assert names(get(*path)) == names(expected)
        by_uid = {ds.SOPInstanceUID: ds for ds in each(*path, media_types=AS_STORED)}
        assert all(by_uid.pop(ds.SOPInstanceUID) == ds for ds in expected) and not by_uid
        told = metadata(*path)
        assert sorted(values(told, "00080018")) == names(expected)
        for one in told:
            ds = pydicom.Dataset.from_json(one, lambda *_: b"")
            assert client.retrieve_instance_metadata(*uids(ds)) == one
            assert ds.PatientName == NAMES[study][1]
    jpeg_2000 = of(sent, 2, 1)[0]
    syntax = (("application/dicom", jpeg_2000.file_meta.TransferSyntaxUID),)
    (same,) = client.iter_series(*uids(jpeg_2000)[:2], media_types=syntax)
    assert same.PixelData == jpeg_2000.PixelData
    refused(404, client.retrieve_study, f"{ROOT}.9")
    refused(404, client.retrieve_instance_metadata, f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.99")


def frames(client, sent):
    for ds in sent:
        if "PixelData" not in ds:
            continue
        count = int(ds.get("NumberOfFrames") or 1)
        syntax = UID(ds.file_meta.TransferSyntaxUID)
        numbers = list(range(1, count + 1))
        stored = client.retrieve_instance_frames(*uids(ds), numbers, media_types=OCTETS)
        if syntax.is_compressed:
            expected = list(generate_frames(ds.PixelData, number_of_frames=count))
        else:
            step = len(ds.PixelData) // count
            expected = [ds.PixelData[n * step : (n + 1) * step] for n in range(count)]
        assert [frame.rstrip(b"\0") for frame in stored] == [frame.rstrip(b"\0") for frame in expected], uids(ds)
        one_by_one = list(client.iter_instance_frames(*uids(ds), numbers, media_types=OCTETS))
        assert one_by_one == stored
        # In another order.
        backwards = client.retrieve_instance_frames(*uids(ds), numbers[::-1], media_types=OCTETS)
        assert backwards == stored[::-1]
        # Pixels, by what they are.
        plain = client.retrieve_instance_frames(
            *uids(ds), numbers, media_types=(("application/octet-stream", "1.2.840.10008.1.2.1"),)
        )
        pixels = pixels_of(ds) if count > 1 else pixels_of(ds)[np.newaxis]
        for frame, expected in zip(plain, pixels, strict=True):
            assert len(frame) in (expected.nbytes, expected.nbytes + 1), uids(ds)
            assert not is_exact(ds) or frame[: expected.nbytes] == expected.tobytes(), uids(ds)
        refused(404, client.retrieve_instance_frames, *uids(ds), [count + 1], media_types=OCTETS)
    rle = of(sent, 1, 3)[0]
    compressed = {
        "image/jls": ("1.2.840.10008.1.2.4.80", (b"\xff\xd8\xff",)),
        "image/jp2": ("1.2.840.10008.1.2.4.90", (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")),
    }
    for media_type, (syntax, begins) in compressed.items():
        got = client.retrieve_instance_frames(*uids(rle), [1, 2], media_types=((media_type, syntax),))
        assert len(got) == 2 and got[0] != got[1], media_type
        assert all(frame.startswith(begins) for frame in got), media_type


def rendered(client, sent):
    ct, colour = sent[0], of(sent, 1, 3)[0]
    begins = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG", "image/gif": b"GIF8"}
    for media_type, start in begins.items():
        for ds in (ct, colour):
            got = client.retrieve_instance_rendered(*uids(ds), media_types=(media_type,))
            assert got.startswith(start), (media_type, got[:8])
            got = client.retrieve_instance_frames_rendered(*uids(ds), [1], media_types=(media_type,))
            assert got.startswith(start), (media_type, got[:8])
    params = {"viewport": "64,64", "window": "40,400,linear", "quality": "50"}
    small = client.retrieve_instance_rendered(*uids(ct), media_types=("image/png",), params=params)
    assert (int.from_bytes(small[16:20]), int.from_bytes(small[20:24])) == (64, 64)
    # Of a series there are parts, one for each picture, and the client asks for one that is none.
    refused(406, client.retrieve_series_rendered, *uids(ct)[:2], media_types=("image/jpeg",))
    refused(400, client.retrieve_instance_rendered, *uids(ct), params={"quality": "0"})
    # A plan has no picture.
    plan = of(sent, 3)[0]
    refused(406, client.retrieve_instance_rendered, *uids(plan), media_types=("image/jpeg",))


def bulkdata(client, sent):
    tried = 0
    for ds in sent:
        metadata = client.retrieve_instance_metadata(*uids(ds))
        uri = metadata.get("7FE00010", {}).get("BulkDataURI")
        syntax = UID(ds.file_meta.TransferSyntaxUID)
        if uri is None or syntax.is_compressed:
            continue
        tried += 1
        assert b"".join(client.retrieve_bulkdata(uri)) == ds.PixelData
        assert b"".join(client.iter_bulkdata(uri, media_types=BULK)) == ds.PixelData
        # Not its byte_range: it takes a range of a multipart body for a whole one.
    assert tried >= 8, tried


def delete(client, sent):
    client.delete_instance(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.5")
    refused(410, client.retrieve_instance, f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.5")
    assert len(client.search_for_instances(f"{ROOT}.1", f"{ROOT}.1.1")) == 4
    client.delete_series(f"{ROOT}.1", f"{ROOT}.1.2")
    assert len(client.search_for_series(f"{ROOT}.1")) == 2
    assert names(client.iter_study(f"{ROOT}.1")) == [f"{ROOT}.1.1.{n}" for n in (1, 2, 3, 4)] + [f"{ROOT}.1.3.1"]
    client.delete_study(f"{ROOT}.2")
    assert sorted(values(client.search_for_studies(), "0020000D")) == [f"{ROOT}.1", f"{ROOT}.3"]
    refused(404, client.delete_study, f"{ROOT}.2")
    # And it may be stored again.
    client.store_instances(of(sent, 2))
    assert names(client.retrieve_study(f"{ROOT}.2")) == names(of(sent, 2))


def main(base):
    client = DICOMwebClient(url=f"{base}/partitions/client")
    # Bodies in pieces of unknown length, too.
    client.set_chunk_size(10_000)
    sent = instances()
    # As they are read back from a file.
    for at, ds in enumerate(sent):
        buffer = io.BytesIO()
        ds.save_as(buffer)
        sent[at] = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
    for step in (store, search, retrieve, frames, rendered, bulkdata, delete):
        step(client, sent)
    print(f"dicomweb-client: {len(sent)} instances stored, searched for, retrieved, rendered and deleted: passed")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
