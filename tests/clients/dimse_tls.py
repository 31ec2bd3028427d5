#!/usr/bin/env python3
"""DCMTK's programs and pynetdicom against the DIMSE gateway by TLS, and a C-MOVE to storescp by TLS.

usage: dimse_tls.py --certificates FOLDER           makes ca, server and peer there (.pem, .key)
       dimse_tls.py BASE_URL GATEWAY PORT FOLDER

GATEWAY is its host and port. The server must have these files as its certificate and as the authority
of clients and destinations, client_auth "required", authentication on, tls.principals with CN=peer for
the partition north, and as a peer STORESCP with 127.0.0.1:PORT as its destination by TLS.
"""

import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pydicom
import requests
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dimse import run, same

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
NAMES = ["CT_small.dcm", "MR_small.dcm"]


def certificates(folder):
    """An authority, and what it signs: the server's certificate, which is a client's of destinations as
    well, and the peers'; and those of an authority that nobody knows."""

    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for ca, signed in [("ca", ["server", "peer"]), ("strange-ca", ["stranger"])]:
        openssl("req", "-x509", *curve, "-subj", f"/CN={ca}", "-days", "2",
                "-keyout", folder / f"{ca}.key", "-out", folder / f"{ca}.pem")
        for name in signed:
            request = folder / f"{name}.csr"
            openssl("req", *curve, "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", request)
            openssl("x509", "-req", "-in", request, "-CA", folder / f"{ca}.pem", "-CAkey", folder / f"{ca}.key",
                    "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", folder / f"{name}.pem")


def shown(files, name="peer"):
    """What DCMTK's programs are told of a certificate, and whom to believe."""
    return ["+tls", files / f"{name}.key", files / f"{name}.pem", "+cf", files / "ca.pem"]


def refused(program, *arguments):
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0, command


def dcmtk(host, port, files, work):
    run("echoscu", *shown(files), "-aec", "NORTH", host, port)
    for name in NAMES:
        run("storescu", *shown(files), "-R", "-xe", "-aec", "NORTH", host, port, DATA / name)
    answers = work / "answers"
    answers.mkdir()
    run("findscu", *shown(files), "-S", "-X", "-od", answers, "-aec", "NORTH", "-k",
        "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=", host, port)
    assert len(list(answers.iterdir())) == len(NAMES)
    # In clear, with somebody else's certificate, without one, and for somebody else's partition.
    refused("echoscu", "-aec", "NORTH", host, port)
    refused("echoscu", *shown(files, "stranger"), "-aec", "NORTH", host, port)
    refused("echoscu", "+tla", "+cf", files / "ca.pem", "-aec", "NORTH", host, port)
    refused("echoscu", *shown(files), "-aec", "SOUTH", host, port)


def association(host, port, files, classes, **more):
    context = ssl.create_default_context(cafile=files / "ca.pem")
    context.load_cert_chain(files / "peer.pem", files / "peer.key")
    ae = AE("PYNETDICOM")
    for class_uid in classes:
        ae.add_requested_context(class_uid, [ExplicitVRLittleEndian])
    made = ae.associate(host, port, ae_title="NORTH", tls_args=(context, host), **more)
    assert made.is_established, "no association"
    return made


def study(ds):
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", ds.StudyInstanceUID
    return query


def pynetdicom(host, port, files, sent):
    taken = {}

    def take(event):
        ds = event.dataset
        ds.file_meta = event.file_meta
        taken[ds.SOPInstanceUID] = ds
        return 0x0000

    find, get = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
    classes = [CTImageStorage, MRImageStorage]
    made = association(host, port, files, [Verification, find, get, *classes],
                       ext_neg=[build_role(one, scp_role=True) for one in classes],
                       evt_handlers=[(evt.EVT_C_STORE, take)])
    assert made.send_c_echo().Status == 0
    for ds in sent:
        assert [one.Status for one, _ in made.send_c_find(study(ds), find)] == [0xFF00, 0]
        last = [one for one, _ in made.send_c_get(study(ds), get)][-1]
        assert (last.Status, last.NumberOfCompletedSuboperations) == (0, 1), last
    made.release()
    assert all(same(taken[ds.SOPInstanceUID], ds) for ds in sent)


def moved(host, port, move_port, files, work, sent, name):
    """What storescp with this certificate was given of a study, and the last answer."""
    folder = work / f"moved-{name}"
    folder.mkdir()
    command = ["storescp", *map(str, shown(files, name)), "-od", str(folder), "-aet", "STORESCP", str(move_port)]
    destination = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        model = StudyRootQueryRetrieveInformationModelMove
        made = association(host, port, files, [model])
        tries = 0
        while True:
            last = [one for one, _ in made.send_c_move(study(sent), "STORESCP", model)][-1]
            tries += 1
            # Until it listens.
            if last.Status != 0xA702 or tries >= 20:
                break
            time.sleep(0.1)
        made.release()
    finally:
        destination.terminate()
        destination.wait(timeout=60)
    return [pydicom.dcmread(path) for path in folder.iterdir()], last


def main(base, gateway, move_port, folder):
    host, port = gateway.rsplit(":", 1)
    port, files = int(port), Path(folder)
    sent = [pydicom.dcmread(DATA / name) for name in NAMES]
    # A first instance, by HTTPS: the partition has to be there before it can be called.
    session = requests.Session()
    session.trust_env = False
    session.verify, session.cert = str(files / "ca.pem"), (str(files / "peer.pem"), str(files / "peer.key"))
    headers = {"Content-Type": "application/dicom", "Accept": "application/dicom+json"}
    body = (DATA / NAMES[0]).read_bytes()
    assert session.post(f"{base}/partitions/north/studies", data=body, headers=headers, timeout=60).status_code == 200
    session.delete(f"{base}/partitions/north/studies/{sent[0].StudyInstanceUID}", timeout=60).raise_for_status()
    with tempfile.TemporaryDirectory() as work:
        dcmtk(host, port, files, Path(work))
        found = session.get(f"{base}/partitions/north/instances", timeout=60).json()
        assert len(found) == len(sent), len(found)
        pynetdicom(host, port, files, sent)
        for ds in sent:
            inner = Path(tempfile.mkdtemp(dir=work))
            (came,), last = moved(host, port, move_port, files, inner, ds, "peer")
            assert last.Status == 0 and same(came, ds), last
        # One whose certificate is of an authority that is not dimse.ca's gets nothing.
        came, last = moved(host, port, move_port, files, Path(work), sent[0], "stranger")
        assert (came, last.Status, last.NumberOfFailedSuboperations) == ([], 0xA702, 1), last
    print("TLS: DCMTK and pynetdicom stored, found, got, and moved to storescp; strangers were refused")


if __name__ == "__main__":
    if sys.argv[1] == "--certificates":
        certificates(Path(sys.argv[2]))
    else:
        main(*sys.argv[1:])
