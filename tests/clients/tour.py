#!/usr/bin/env python3
"""Walks a tour of the README, word for word, against a running server.

usage: tour.py README.md TOUR BASE_URL FOLDER

A tour stands between `<!-- tour: NAME -->` and `<!-- end of tour -->`. Its `sh` blocks are run one
after another in one shell in FOLDER, its `python` blocks are run by the `python` of the tour's own
virtual environment there. A `text` block after either is what must be printed; `…` in it stands for
anything. Only the address differs from what the README says.
"""

import re
import subprocess
import sys
from pathlib import Path

ADDRESS = "127.0.0.1:8080"
BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "-- end of block --"


def blocks(readme, name):
    """The blocks of a tour: (language, text)."""
    found = re.search(rf"<!-- tour: {name} -->(.*?)<!-- end of tour -->", readme, re.DOTALL)
    if not found:
        sys.exit(f"there is no tour {name!r}")
    return BLOCK.findall(found.group(1))


def steps(found):
    """(commands, expected output or None) of each step."""
    out = []
    for language, text in found:
        if language == "text":
            commands, expected = out[-1]
            assert expected is None, "two outputs after one block"
            out[-1] = commands, text
        elif language == "python":
            out.append((f"venv/bin/python - <<'PYTHON'\n{text}PYTHON\n", None))
        else:
            out.append((text, None))
    return out


def matches(expected, got):
    pattern = ".*".join(re.escape(piece) for piece in expected.strip().split("…"))
    return re.fullmatch(pattern, got.strip(), re.DOTALL) is not None


def main(readme, name, base, folder):
    found = steps(blocks(Path(readme).read_text(), name))
    address = base.removeprefix("http://")
    found = [
        (commands.replace(ADDRESS, address), expected and expected.replace(ADDRESS, address))
        for commands, expected in found
    ]
    script = "".join(f"{commands}\necho '{END}'\n" for commands, _ in found)
    shell = ["bash", "-euo", "pipefail", "-c", script]
    ran = subprocess.run(shell, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=600)
    outputs = ran.stdout.split(f"{END}\n")
    failed = ran.returncode != 0
    for (commands, expected), got in zip(found, outputs):
        print(commands.strip())
        print("    " + got.strip().replace("\n", "\n    "))
        if expected is not None and not matches(expected, got):
            print(f"EXPECTED\n{expected}")
            failed = True
    if failed:
        sys.exit(f"the tour {name!r} failed (exit code of its shell: {ran.returncode})")
    print(f"tour {name!r}: {len(found)} steps, as the README says")


if __name__ == "__main__":
    main(*sys.argv[1:])
