#!/usr/bin/env python3
"""DCMTK's programs and pynetdicom against the DIMSE gateway of a running server.

usage: dimse.py BASE_URL GATEWAY PORT

GATEWAY is its host and port. The server must have features.enable_data_partition = true, and peers MOVER
(with 127.0.0.1:PORT as its destination), STORESCU, FINDSCU, GETSCU, ECHOSCU, MOVESCU and PYNETDICOM that
may call every partition.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)
from dicomweb_client.api import DICOMwebClient

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
# Native and compressed, grey and colour, explicit, implicit and big endian.
NAMES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "SC_rgb_rle_2frame.dcm",
    "JPEG2000.dcm",
    "JPEG-lossy.dcm",
    "examples_palette.dcm",
    "rtplan.dcm",
]
# What storescu has to be told to propose.
PROPOSE = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}
# A study that makes the partition, by HTTP.
FIRST = "1.2.66"


def run(program, *arguments):
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def received(folder):
    files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return {ds.SOPInstanceUID: ds for ds in files}


def same(one, other):
    """Whether two instances say the same, whatever they are encoded in."""
    ignored = {0x7FE00010, 0xFFFCFFFC}
    for ds in (one, other):
        ds.decode()
    plain = [{e.tag: str(e.value) for e in ds if e.tag not in ignored and e.VR not in ("SQ", "UN", "OW", "OB")}
             for ds in (one, other)]
    return plain[0] == plain[1]


def store(folder, host, port):
    """Stores each file in the transfer syntax that it has."""
    for path in sorted(folder.iterdir()):
        syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
        run("storescu", "-R", PROPOSE[syntax], "-aec", "NORTH", host, port, path)


def dcmtk(base, host, port, move_port, work):
    sent = {}
    folder = work / "sent"
    folder.mkdir()
    for name in NAMES:
        ds = pydicom.dcmread(DATA / name)
        if ds.SOPInstanceUID not in sent:
            sent[ds.SOPInstanceUID] = ds
            (folder / name).write_bytes((DATA / name).read_bytes())
    run("echoscu", "-aec", "NORTH", host, port)
    store(folder, host, port)
    client = DICOMwebClient(url=f"{base}/partitions/north")
    found = client.search_for_instances()
    assert len(found) == len(sent) + 1, (len(found), len(sent))
    # Once more is a success as well.
    store(folder, host, port)

    answers = work / "answers"
    answers.mkdir()
    run("findscu", "-S", "-X", "-od", answers, "-aec", "NORTH", "-k", "QueryRetrieveLevel=STUDY",
        "-k", "StudyInstanceUID=", "-k", "PatientName=", "-k", "ModalitiesInStudy=",
        "-k", "NumberOfStudyRelatedInstances=", host, port)
    studies = {ds.StudyInstanceUID: ds for ds in map(pydicom.dcmread, answers.iterdir())}
    del studies[FIRST]
    assert set(studies) == {ds.StudyInstanceUID for ds in sent.values()}
    counted = sum(int(ds.NumberOfStudyRelatedInstances) for ds in studies.values())
    assert counted == len(sent), counted
    text = run("findscu", "-P", "-v", "-aec", "NORTH", "-k", "QueryRetrieveLevel=PATIENT",
               "-k", "PatientID=", "-k", "PatientName=*", host, port)
    patients = {(ds.get("PatientID"),) for ds in sent.values()}
    assert text.count("Find Response:") >= len(patients), text

    for uid in studies:
        expected = {u: ds for u, ds in sent.items() if ds.StudyInstanceUID == uid}
        key = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}"]
        got = work / f"got-{uid}"
        got.mkdir()
        run("getscu", "-S", "-od", got, "-aec", "NORTH", *key, host, port)
        back = received(got)
        native = {u for u, ds in expected.items() if not ds.file_meta.TransferSyntaxUID.is_compressed}
        assert native <= set(back) <= set(expected), (uid, set(back), set(expected))
        assert all(same(ds, expected[u]) for u, ds in back.items()), uid
        moved = work / f"moved-{uid}"
        moved.mkdir()
        run("movescu", "-S", "-aet", "MOVESCU", "-aem", "MOVER", "+P", move_port, "-od", moved,
            "+xa", "-aec", "NORTH", *key, host, port)
        back = received(moved)
        assert set(back) == set(expected), (uid, set(back), set(expected))
        assert all(same(ds, expected[u]) for u, ds in back.items()), uid

    for called, calling in [("SOUTH", "STORESCU"), ("NORTH", "NOBODY")]:
        command = ["echoscu", "-aet", calling, "-aec", called, host, str(port)]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert refused.returncode != 0, command
    command = ["movescu", "-S", "-aem", "ELSEWHERE", "-aec", "NORTH", *key, host, str(port)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "A801" in (refused.stdout + refused.stderr).upper() or refused.returncode != 0
    print(f"DCMTK: {len(sent)} instances of {len(studies)} studies stored, found, got and moved")


def association(host, port, contexts, **more):
    ae = AE("PYNETDICOM")
    for class_uid, syntaxes in contexts:
        ae.add_requested_context(class_uid, syntaxes)
    made = ae.associate(host, port, ae_title="NORTH", **more)
    assert made.is_established, "no association"
    return made


def pynetdicom(host, port):
    both = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    # As many contexts as there can be.
    made = association(host, port, [(Verification, both)] * 128)
    assert len(made.accepted_contexts) == 128
    assert made.send_c_echo().Status == 0
    made.release()

    # Three hundred instances: a search and a get that are canceled.
    ct = pydicom.dcmread(DATA / "CT_small.dcm")
    made = association(host, port, [(CTImageStorage, [ExplicitVRLittleEndian])])
    for number in range(300):
        ct.StudyInstanceUID, ct.SeriesInstanceUID = "1.2.77", "1.2.77.1"
        ct.SOPInstanceUID = ct.file_meta.MediaStorageSOPInstanceUID = f"1.2.77.1.{number}"
        assert made.send_c_store(ct).Status == 0
    made.release()
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID, query.SeriesInstanceUID, query.SOPInstanceUID = "1.2.77", "1.2.77.1", ""
    find = StudyRootQueryRetrieveInformationModelFind
    made = association(host, port, [(find, both)])
    statuses = []
    for status, _ in made.send_c_find(query, find, msg_id=7):
        statuses.append(status.Status)
        if len(statuses) == 1:
            made.send_c_cancel(7, query_model=find)
    assert statuses[-1] in (0xFE00, 0x0000), hex(statuses[-1])
    # The association goes on, and all is told to who waits for it.
    told = [status.Status for status, _ in made.send_c_find(query, find)]
    assert told.count(0xFF00) == 300 and told[-1] == 0, (len(told), told[-1])
    made.release()

    taken = []

    def take(event):
        taken.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    get = StudyRootQueryRetrieveInformationModelGet
    contexts = [(get, both), (CTImageStorage, [ImplicitVRLittleEndian])]
    made = association(host, port, contexts, ext_neg=[build_role(CTImageStorage, scp_role=True)],
                       evt_handlers=[(evt.EVT_C_STORE, take)])
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", "1.2.77"
    last = None
    for status, _ in made.send_c_get(query, get):
        last = status
    assert last.Status == 0 and last.NumberOfCompletedSuboperations == 300, last
    assert len(set(taken)) == 300
    made.release()
    # Without the role nothing can be sent, and that is what is said.
    made = association(host, port, contexts)
    for status, _ in made.send_c_get(query, get):
        last = status
    assert last.Status == 0xA702 and last.NumberOfFailedSuboperations == 300, last
    made.release()

    # A patient is told once.
    patients = PatientRootQueryRetrieveInformationModelFind
    made = association(host, port, [(patients, both)])
    query = Dataset()
    query.QueryRetrieveLevel, query.PatientID, query.PatientName = "PATIENT", "", ""
    found = [ds.PatientID for status, ds in made.send_c_find(query, patients) if ds is not None]
    assert len(found) == len(set(found)) and found, found
    made.release()
    print("pynetdicom: contexts, roles, C-CANCEL, implicit VR")


def main(base, gateway, move_port):
    host, port = gateway.rsplit(":", 1)
    # A called title that is not listed means a partition that is there.
    ct = pydicom.dcmread(DATA / "CT_small.dcm")
    ct.StudyInstanceUID = FIRST
    ct.SOPInstanceUID = ct.file_meta.MediaStorageSOPInstanceUID = f"{FIRST}.1"
    client = DICOMwebClient(url=f"{base}/partitions/north")
    client.store_instances([ct])
    with tempfile.TemporaryDirectory() as work:
        dcmtk(base, host, int(port), int(move_port), Path(work))
    pynetdicom(host, int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
