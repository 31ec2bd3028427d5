"""What dciodvfy says of files."""

import re
import subprocess
from collections import Counter


def errors(path):
    """The errors that it finds, without where: offsets change."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, timeout=120, check=False)
    lines = done.stderr.decode("latin-1").splitlines()
    return Counter(re.sub(r"0x[0-9a-f]+|\d+ bytes", "", line) for line in lines if line.startswith("Error"))
