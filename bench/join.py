"""How long a machine takes to join, and what memory its services then have.

    python bench/join.py ROOT

ROOT: a cloud that runs (dozen --root ROOT up). Another root on this machine joins it three times,
with packages and Python environment there already; the last time its memory is read after a minute.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
SETTLED = 60.0
"""s after which a node has done all that it does at its start."""
NAME = "bench"


def dozen(root: Path, *words: str) -> str:
    command = [sys.executable, "-m", "dozencloud", "--root", str(root), *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def joined(cloud: Path, root: Path) -> float:
    """Seconds until servers can be placed on the node."""
    words = dozen(cloud, "node", "token").split()[2:]
    begun = time.monotonic()
    dozen(root, *words, "--name", NAME)
    return time.monotonic() - begun


def main() -> None:
    cloud, root = Path(sys.argv[1]), Path(tempfile.mkdtemp(prefix="dzb", dir="/var/tmp"))
    root.chmod(0o755)
    seconds = []
    try:
        for round_ in range(ROUNDS):
            seconds.append(joined(cloud, root))
            if round_ == ROUNDS - 1:
                time.sleep(SETTLED)
                status = json.loads(dozen(root, "status", "--json"))
            dozen(cloud, "node", "remove", NAME)
            dozen(root, "destroy", "--yes")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"join: {statistics.median(seconds):.1f} s, the median of {ROUNDS}")
    for service in [*status["services"], {"name": "supervisor", **status["supervisor"]}]:
        print(f"{service['name']:16}{service['memory_mib']:7.0f} MiB")
    print(f"{'all':16}{status['memory_mib']['control_plane']:7.0f} MiB")


if __name__ == "__main__":
    main()
