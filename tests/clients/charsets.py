#!/usr/bin/env python3
"""Searches for the names in pydicom's character set files, against a running server.

usage: charsets.py BASE_URL     (the server must have features.enable_data_partition = true)

Each file is stored as it is, in whatever character set; then its name, as pydicom decodes it, is
asked for in UTF-8: whole, by each component group alone, by its beginning, by a part of it, in the
other case, without accents and with decomposed ones, and fuzzily by a given name. Each search finds
exactly the files that it should, counted here by Unicode's own rules, and shows their names in JSON
and in XML.
"""

import fnmatch
import json
import sys
import unicodedata
import warnings
from pathlib import Path

import pydicom
import requests
from pydicom.data import get_charset_files

from corpus import DICOM_JSON, Failure, check, multipart, store
import nativemodel

warnings.simplefilter("ignore")
GROUPS = ["Alphabetic", "Ideographic", "Phonetic"]
XML = 'multipart/related; type="application/dicom+xml"'
# Scripts that must be among the names, or the files are not what they were.
SCRIPTS = ["HIRAGANA", "HALFWIDTH", "CJK", "HANGUL", "GREEK", "ARABIC", "HEBREW", "CYRILLIC", "LATIN"]


def names():
    """The files with a name: path, data set, component groups."""
    for path in sorted(get_charset_files("*.dcm")):
        ds = pydicom.dcmread(path)
        ds.decode()
        if "PatientName" in ds and "SOPInstanceUID" in ds:
            yield Path(path).name, ds, str(ds.PatientName).split("="), Path(path).read_bytes()


def fold(text):
    """Without case, width and accents; the voicing marks of kana are no accents."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    plain = (c for c in decomposed if unicodedata.combining(c) not in (220, 230))
    return unicodedata.normalize("NFC", "".join(plain)).rstrip("^")


def words(text):
    return "".join(c if c.isalnum() else " " for c in fold(text)).split()


def without_accents(text):
    plain = (c for c in unicodedata.normalize("NFD", text) if unicodedata.combining(c) != 230)
    return unicodedata.normalize("NFC", "".join(plain))


def searches(groups):
    """What is asked for: a text for people, the name, and whether fuzzily."""
    yield "the whole name", "=".join(groups), False
    for group in groups:
        components = group.split("^")
        yield "a group alone", group, False
        yield "its beginning", f"{group[:2]}*", False
        yield "a family name", f"{components[0]}*", False
        yield "a part of it", f"*{group[1:-1]}*", False
        yield "any one character", f"{group[:1]}?{group[2:]}", False
        yield "the other case", group.swapcase(), False
        yield "no accents", without_accents(group), False
        yield "decomposed accents", unicodedata.normalize("NFD", group), False
        yield "other width", unicodedata.normalize("NFKC", group), False
        yield "a given name, fuzzily", components[-1], True
        yield "the beginning of a given name, fuzzily", components[-1][:2], True
        yield "given before family, fuzzily", " ".join(reversed(components)), True


def matches(asked, fuzzily, groups):
    """Whether a name is meant. Sounds are left out: no two names here sound alike."""
    if fuzzily:
        known = [word for group in groups for word in words(group)]
        return all(any(word.startswith(want) for word in known) for want in words(asked))
    folded = [fold(group) for group in groups]
    wanted = [fold(group) for group in asked.split("=") if group]
    return all(any(fnmatch.fnmatchcase(group, want) for group in folded) for want in wanted)


def check_search(base, stored, what, asked, fuzzily):
    expected = {str(ds.StudyInstanceUID): groups for ds, groups in stored if matches(asked, fuzzily, groups)}
    check(expected, f"nothing is expected of {what}: {asked}")
    query = {"PatientName": asked, "fuzzymatching": "true" if fuzzily else "false"}
    for level in ("studies", "instances"):
        got = requests.get(f"{base}/{level}", params=query, headers={"Accept": DICOM_JSON}, timeout=60)
        check(got.status_code == 200, f"{what}, {asked}, {level}: {got.status_code} {got.text[:300]}")
        check("Warning" not in got.headers, got.headers.get("Warning"))
        results = got.json()
        found = {result["0020000D"]["Value"][0] for result in results}
        check(found == set(expected), f"{what}, {asked}, {level}: {found} instead of {set(expected)}")
        for result in results:
            groups = expected[result["0020000D"]["Value"][0]]
            name = {key: group for key, group in zip(GROUPS, groups) if group}
            check(result["00100010"] == {"vr": "PN", "Value": [name]}, f"{result['00100010']} for {name}")
            check(result["00080005"]["Value"] == ["ISO_IR 192"], "the character set of the answer")
    return len(results)


def check_xml(base, asked):
    """The XML says what the JSON says."""
    query = {"PatientName": asked}
    text = requests.get(f"{base}/studies", params=query, timeout=60).text
    ours = json.loads(text, parse_int=str, parse_float=str)
    got = requests.get(f"{base}/studies", params=query, headers={"Accept": XML}, timeout=60)
    check(got.status_code == 200, f"XML, {asked}: {got.status_code} {got.text[:300]}")
    parts = [nativemodel.read(body) for _, body in multipart(got)]
    check(parts == [nativemodel.expected(result) for result in ours], f"XML differs for {asked}")


def main(base):
    files = list(names())
    letters = "".join(unicodedata.name(c, "") + " " for _, _, groups, _ in files for c in "".join(groups))
    missing = [script for script in SCRIPTS if script not in letters]
    # Some of the files are one instance in several encodings: those go to other partitions.
    partitions = []
    for name, ds, groups, body in files:
        uids = [[str(stored.SOPInstanceUID) for stored, _ in partition] for partition in partitions]
        number = next((n for n, taken in enumerate(uids) if ds.SOPInstanceUID not in taken), len(uids))
        if number == len(partitions):
            partitions.append([])
        partitions[number].append((ds, groups))
        answer = store(f"{base}/partitions/charsets-{number}", body)
        check(answer.status_code in (200, 202), f"{name}: {answer.status_code} {answer.text[:300]}")
    failures, asked = 0, 0
    for number, stored in enumerate(partitions):
        place = f"{base}/partitions/charsets-{number}"
        for ds, groups in stored:
            for what, name, fuzzily in searches(groups):
                asked += 1
                try:
                    check_search(place, stored, what, name, fuzzily)
                    if what == "a group alone":
                        check_xml(place, name)
                except Failure as failure:
                    failures += 1
                    print(f"FAILED {ds.SpecificCharacterSet} {groups}: {failure}")
    print(f"charsets: {len(files)} files, {asked} searches, {failures} failed")
    if missing or len(files) < 14:
        print(f"too few names to mean anything; scripts that are missing: {missing}")
    sys.exit(1 if failures or missing or len(files) < 14 else 0)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
