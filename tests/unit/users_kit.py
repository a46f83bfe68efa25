"""Commands as somebody else."""

from __future__ import annotations

import subprocess
import sys

NOBODY = 65534


def dozen_as_nobody(root: object, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `dozen --root ROOT WORDS` as a user who owns nothing; only root can."""
    return subprocess.run(
        [sys.executable, "-I", "-m", "dozencloud", "--root", str(root), *words],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
