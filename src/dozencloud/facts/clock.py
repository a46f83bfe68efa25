"""Who keeps this machine's clock on time: TLS needs that, and many boards have no battery."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from dozencloud.facts.capabilities import parse_bounding
from dozencloud.facts.processes import PROC, name, pids

DAEMONS = {
    "systemd-timesyncd": Path("/usr/lib/systemd/systemd-timesyncd"),
    "chronyd": Path("/usr/sbin/chronyd"),
    "ntpd": Path("/usr/sbin/ntpd"),
}
"""Debian's packages that provide time-daemon; OpenNTPD's and NTPsec's are called ntpd, too."""
OURS = b"DOZEN_CLOUD="
"""In the environment of what our supervisor runs (Cloud.marker)."""

_COMM = 15  # bytes of a process's name in /proc
_CAP_SYS_TIME = 1 << 25  # linux/capability.h
_STA_UNSYNC = 0x40  # adjtimex(2)


@dataclass(frozen=True)
class Clock:
    """The clock of this machine."""

    settable: bool
    """This system may set it; in a container the machine around it does."""
    synchronised: bool
    """The kernel is told by some program that it is right."""
    keeper: str
    """The program that runs for that, ours excepted; or empty."""
    idle: tuple[str, ...]
    """Programs for that which are installed and do not run."""


class _Timex(ctypes.Structure):
    """The first fields of struct timex (adjtimex(2)), and room for the others."""

    _fields_ = (
        ("modes", ctypes.c_int),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("others", ctypes.c_char * 256),
    )


def _synchronised() -> bool:
    state = _Timex()  # modes 0: asks only
    answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    return answer >= 0 and not state.status & _STA_UNSYNC


def parse_settable(status: str) -> bool:
    """From /proc/PID/status: the bounding set, which children of this process are held to."""
    return bool((parse_bounding(status) or 0) & _CAP_SYS_TIME)


def _ours(pid: int) -> bool:
    try:
        return OURS in (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False


def clock() -> Clock:
    """Read the facts of this machine."""
    by_name = {daemon[:_COMM]: daemon for daemon in DAEMONS}
    here = {by_name[name(pid)] for pid in pids() if name(pid) in by_name and not _ours(pid)}
    keeper = next((daemon for daemon in DAEMONS if daemon in here), "")
    return Clock(
        settable=parse_settable((PROC / "self" / "status").read_text()),
        synchronised=_synchronised(),
        keeper=keeper,
        idle=tuple(d for d, path in DAEMONS.items() if path.exists() and d != keeper),
    )
