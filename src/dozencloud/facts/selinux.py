"""Whether SELinux forbids what its policy does not allow."""

from __future__ import annotations

from pathlib import Path

ENFORCE = Path("/sys/fs/selinux/enforce")
"""1: it does; 0: it only writes it down. Not there where the kernel has it not, or off."""


def enforcing(path: Path = ENFORCE) -> bool:
    """Read the fact of this machine."""
    try:
        return path.read_text().strip() == "1"
    except OSError:
        return False
