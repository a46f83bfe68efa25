"""What this process, and all that it starts, may do as root: capabilities(7)."""

from __future__ import annotations

import re
from pathlib import Path

NUMBERS = {
    "chown": 0,
    "dac_override": 1,
    "fowner": 3,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "setpcap": 8,
    "net_bind_service": 10,
    "net_admin": 12,
    "net_raw": 13,
    "sys_chroot": 18,
    "sys_ptrace": 19,
    "sys_admin": 21,
    "sys_nice": 23,
    "sys_resource": 24,
    "mknod": 27,
}
"""Those that a cloud can make use of, with their bits (linux/capability.h)."""
HELPFUL = frozenset({"sys_nice", "sys_resource"})
"""Without these it works all the same."""


def parse_bounding(status: str) -> int | None:
    """From /proc/PID/status: the bounding set, a bit each, which children are held to."""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else None


def parse_lacking(status: str) -> tuple[str, ...]:
    """From /proc/PID/status: those outside the bounding set, which no child can get."""
    bounding = parse_bounding(status)
    held = -1 if bounding is None else bounding
    return tuple(name for name, bit in NUMBERS.items() if not held >> bit & 1)


def lacking() -> tuple[str, ...]:
    """Capabilities of NUMBERS that root does not have here, as in a container."""
    return parse_lacking(Path("/proc/self/status").read_text())
