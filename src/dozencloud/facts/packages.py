"""Whether apt and dpkg are in a state to install something."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dozencloud.facts.processes import name
from dozencloud.facts.run import Answer, ask

LOCKS = (
    Path("/var/lib/dpkg/lock-frontend"),
    Path("/var/lib/dpkg/lock"),
    Path("/var/lib/apt/lists/lock"),
    Path("/var/cache/apt/archives/lock"),
)

# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK = struct.Struct("@hhqqi4x")

# Which mend a section of `dpkg --audit` asks for, by words of its first lines.
_CONFIGURE = (
    "unpacked but not yet configured",
    "half configured",
    "have been triggered",
    "are awaiting processing of triggers",
)
_REINSTALL = ("in a mess", "only half installed")


@dataclass(frozen=True)
class Lock:
    """A lock of apt or dpkg that somebody holds."""

    path: Path
    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.program or 'a program'} (pid {self.pid})"


@dataclass(frozen=True)
class Packages:
    """The health of the package system."""

    present: bool
    """There are apt-get and dpkg at all."""
    unconfigured: tuple[str, ...]
    """`dpkg --configure -a` has work left."""
    damaged: tuple[str, ...]
    """Half-installed packages, which only a reinstallation mends."""
    broken: str
    """What `apt-get check` complains about: its first line of substance, or empty."""
    lock: Lock | None


@dataclass(frozen=True)
class Audit:
    """What `dpkg --audit` found and we care for."""

    unconfigured: tuple[str, ...]
    damaged: tuple[str, ...]


def parse_audit(text: str) -> Audit:
    """Read `dpkg --audit`: paragraphs of prose, then one indented line per package.

    Sections about missing lists or checksums are left out: apt works in spite of them.
    """
    unconfigured: list[str] = []
    damaged: list[str] = []
    for section in text.split("\n\n"):
        lines = section.splitlines()
        prose = " ".join(line for line in lines if not line.startswith(" "))
        names = [line.split()[0] for line in lines if line.startswith(" ") and line.strip()]
        if any(words in prose for words in _REINSTALL):
            damaged += names
        elif any(words in prose for words in _CONFIGURE):
            unconfigured += names
    return Audit(tuple(unconfigured), tuple(damaged))


def parse_check(output: str) -> str:
    """The first complaint of `apt-get check`: an unmet dependency, else an error line."""
    depends = [line.strip() for line in output.splitlines() if re.match(r" \S+ : ", line)]
    errors = [line.removeprefix("E: ") for line in output.splitlines() if line.startswith("E: ")]
    return next(iter(depends + errors), "")


def packages() -> Packages:
    """Read the facts of this machine."""
    with ThreadPoolExecutor() as pool:
        checking = pool.submit(_check)
        audited = ask("dpkg", "--audit")
        check = checking.result()
    audit = parse_audit(audited.output)
    failed = check.code not in (0, None)
    return Packages(
        present=audited.code is not None and check.code is not None,
        unconfigured=audit.unconfigured,
        damaged=audit.damaged,
        broken=(parse_check(check.output + check.error) or "apt-get check fails") if failed else "",
        lock=next((lock for path in LOCKS if (lock := lock_holder(path))), None),
    )


def _check() -> Answer:
    """Check the dependencies among installed packages: 15-130 ms.

    The lists of the archive are not needed for that, and with them it takes a second; nor is a
    cache written.
    """
    options = (
        "Debug::NoLocking=1",
        "Dir::Etc::SourceList=/dev/null",
        "Dir::Etc::SourceParts=/dev/null",
        "Dir::State::Lists=/dev/null",
        "Dir::Cache::pkgcache=",
        "Dir::Cache::srcpkgcache=",
    )
    return ask("apt-get", "check", "-q", *(word for each in options for word in ("-o", each)))


def lock_holder(path: Path) -> Lock | None:
    """Who holds the POSIX lock on `path`; None if nobody, or if we may not ask (not root)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, question))
    except OSError:
        return None
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else Lock(path, pid, name(pid))
