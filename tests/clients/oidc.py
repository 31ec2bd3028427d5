#!/usr/bin/env python3
"""Access tokens of a real provider: by client credentials, and by authorization code with PKCE.

usage: oidc.py BASE_URL NORTH_ISSUER SOUTH_ISSUER     (the two of oidc.mjs, and a server that knows
them, with features.enable_data_partition = true)
"""

import base64
import hashlib
import json
import secrets
import sys
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlparse

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
AUDIENCE = "urn:collimator"
CALLBACK = "http://127.0.0.1:9/cb"


def discovered(issuer):
    answer = requests.get(f"{issuer}/.well-known/openid-configuration", timeout=30)
    answer.raise_for_status()
    return answer.json()


def of_service(issuer, client, scope="dicom", resource=AUDIENCE):
    """A token that a program gets for itself (RFC 6749 section 4.4)."""
    form = {"grant_type": "client_credentials", "scope": scope, "resource": resource}
    # The secret is form-encoded in the header (RFC 6749 section 2.3.1).
    secret = f"secret of {client}".replace(" ", "+")
    answer = requests.post(discovered(issuer)["token_endpoint"], auth=(client, secret), data=form, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


def of_user(issuer, user, scope="openid dicom"):
    """Tokens of somebody who logs in: access token and ID token (RFC 6749 section 4.1, RFC 7636)."""
    known = discovered(issuer)
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    session = requests.Session()
    query = {
        "client_id": "viewer", "response_type": "code", "redirect_uri": CALLBACK, "scope": scope,
        "code_challenge": challenge.decode(), "code_challenge_method": "S256", "resource": AUDIENCE,
        "state": "s", "prompt": "consent",
    }
    answer = session.get(known["authorization_endpoint"], params=query, allow_redirects=False, timeout=30)
    forms = [{"prompt": "login", "login": user, "password": "any"}, {"prompt": "consent"}]
    for _ in range(20):
        if answer.is_redirect:
            to = urljoin(answer.url, answer.headers["location"])
            if to.startswith(CALLBACK):
                break
            answer = session.get(to, allow_redirects=False, timeout=30)
        else:
            assert answer.status_code == 200, answer.text
            answer = session.post(answer.url, data=forms.pop(0), allow_redirects=False, timeout=30)
    code = parse_qs(urlparse(to).query)["code"][0]
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK,
        "client_id": "viewer", "code_verifier": verifier, "resource": AUDIENCE,
    }
    answer = session.post(known["token_endpoint"], data=form, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"], answer.json()["id_token"]


def header_of(token):
    first = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))


def main(base, north, south):
    def status(token, partition, path="studies"):
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{base}/partitions/{partition}/{path}", headers=headers, timeout=60).status_code

    def store(token, partition):
        body = (DATA / "CT_small.dcm").read_bytes()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/dicom"}
        return requests.post(f"{base}/partitions/{partition}/studies", headers=headers, data=body, timeout=60).status_code

    anonymous = requests.get(f"{base}/partitions/north/studies", timeout=60)
    assert anonymous.status_code == 401, anonymous.status_code
    assert anonymous.headers["WWW-Authenticate"].startswith("Bearer "), anonymous.headers

    for issuer, service, own, other, algorithm in [
        (north, "svc-north", "north", "clinic-7", "RS256"),
        (south, "svc-south", "clinic-7", "north", "ES256"),
    ]:
        program = of_service(issuer, service)
        assert header_of(program) | {"kid": ""} == {"alg": algorithm, "typ": "at+jwt", "kid": ""}
        assert store(program, own) == 200
        assert store(program, other) == 404
        assert status(program, own) == 200 and status(program, other) == 404
        client = DICOMwebClient(
            url=f"{base}/partitions/{own}", headers={"Authorization": f"Bearer {program}"}
        )
        assert len(client.search_for_studies()) == 1

        # The same name at both: somebody else, elsewhere.
        alice, id_token = of_user(issuer, "alice")
        assert status(alice, own) == 200 and status(alice, other) == 404
        assert store(alice, own) == 403 and store(alice, other) == 404
        assert status(id_token, own) == 401, "an ID token is no access token"
        narrow, _ = of_user(issuer, "alice", "openid user/ImagingStudy.rs")
        assert status(narrow, own) == 200

        reading = of_service(issuer, service, "system/ImagingStudy.rs")
        assert status(reading, own) == 200 and store(reading, own) == 403
        elsewhere = of_service(issuer, service, resource="urn:somebody-else")
        assert status(elsewhere, own) == 401, "it is meant for somebody else"
        # Of the north, only clients that are named are taken; of the south, all, which have nothing.
        stranger = of_service(issuer, "somebody")
        assert status(stranger, own) == (401 if issuer == north else 404)
        head, payload, signature = program.split(".")
        flipped = "B" if signature[0] == "A" else "A"
        assert status(f"{head}.{payload}.{flipped}{signature[1:]}", own) == 401
    print("tokens of both issuers open what is theirs, and nothing else")


if __name__ == "__main__":
    main(*sys.argv[1:])
