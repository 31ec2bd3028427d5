#!/usr/bin/env python3
"""dicomweb-client against a running server: store, search, retrieve and delete in two partitions.

usage: partitions.py BASE_URL     (the server must have features.enable_data_partition = true)
"""

import io
import sys
from pathlib import Path

import pydicom
from dicomweb_client.api import DICOMwebClient
from requests import HTTPError

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
NAMES = ["CT_small.dcm", "MR_small.dcm", "examples_palette.dcm", "SC_rgb_rle_2frame.dcm"]


def refused(call, status):
    try:
        call()
    except HTTPError as error:
        assert error.response.status_code == status, (error.response.status_code, status)
        return
    raise AssertionError(f"expected {status}")


def main(base):
    data_sets = [pydicom.dcmread(DATA / name) for name in NAMES]
    north = DICOMwebClient(url=f"{base}/partitions/client-north")
    south = DICOMwebClient(url=f"{base}/partitions/client-south")
    for client in (north, south):
        response = client.store_instances(data_sets)
        assert len(response.ReferencedSOPSequence) == len(data_sets), response
        assert "FailedSOPSequence" not in response

    for client in (north, south):
        studies = client.search_for_studies(get_remaining=True)
        assert len(studies) == len({ds.StudyInstanceUID for ds in data_sets})
        ct = data_sets[0]
        (found,) = client.search_for_studies(search_filters={"PatientID": ct.PatientID})
        assert found["0020000D"]["Value"] == [ct.StudyInstanceUID]
        assert len(client.search_for_series(ct.StudyInstanceUID)) == 1
        assert len(client.search_for_instances(ct.StudyInstanceUID)) == 1
        for ds in data_sets:
            uids = ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID
            again = client.retrieve_instance(*uids)
            assert again.SOPInstanceUID == ds.SOPInstanceUID
            assert again.PixelData == ds.PixelData
            (metadata,) = client.retrieve_study_metadata(uids[0])
            assert pydicom.Dataset.from_json(metadata, lambda *_: b"").PatientName == ds.PatientName
            assert client.retrieve_instance_metadata(*uids) == metadata
            count = int(ds.get("NumberOfFrames") or 1)
            frames = client.retrieve_instance_frames(
                *uids,
                frame_numbers=list(range(1, count + 1)),
                media_types=(("application/octet-stream", "*"),),
            )
            assert len(frames) == count
            uri = metadata["7FE00010"].get("BulkDataURI")
            if uri:
                assert b"".join(client.retrieve_bulkdata(uri))
        (series,) = client.retrieve_series(ct.StudyInstanceUID, ct.SeriesInstanceUID)
        assert series.SOPInstanceUID == ct.SOPInstanceUID
        buffer = io.BytesIO()
        for chunk_ds in client.iter_study(ct.StudyInstanceUID):
            pydicom.dcmwrite(buffer, chunk_ds)
        assert buffer.tell() > ct.Rows * ct.Columns * 2

    # What is deleted in one partition stays in the other.
    ct, mr = data_sets[0], data_sets[1]
    north.delete_study(ct.StudyInstanceUID)
    refused(lambda: north.retrieve_study(ct.StudyInstanceUID), 410)
    refused(lambda: north.delete_study(ct.StudyInstanceUID), 404)
    assert north.search_for_studies(search_filters={"StudyInstanceUID": ct.StudyInstanceUID}) == []
    assert len(south.retrieve_study(ct.StudyInstanceUID)) == 1
    south.delete_instance(mr.StudyInstanceUID, mr.SeriesInstanceUID, mr.SOPInstanceUID)
    refused(lambda: south.retrieve_study(mr.StudyInstanceUID), 410)
    assert len(north.retrieve_study(mr.StudyInstanceUID)) == 1
    print("dicomweb-client: store, search, retrieve and delete in two partitions: passed")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
