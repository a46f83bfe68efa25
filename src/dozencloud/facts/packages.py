"""Whether the package system, apt with dpkg or dnf with rpm, is in a state to install something."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dozencloud.facts.processes import name
from dozencloud.facts.run import Answer, ask
from dozencloud.facts.system import Family

APT_LOCKS = (
    Path("/var/lib/dpkg/lock-frontend"),
    Path("/var/lib/dpkg/lock"),
    Path("/var/lib/apt/lists/lock"),
    Path("/var/cache/apt/archives/lock"),
)
RPM_LOCKS = (Path("/usr/lib/sysimage/rpm/.rpm.lock"), Path("/var/lib/rpm/.rpm.lock"))
"""Fedora's since its release 36, and the older place; held while packages are changed."""
RPM_SECONDS = 30.0
"""In which rpm has looked at the dependencies of some thousand packages, on a slow card."""

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
    """A lock of the package system that somebody holds."""

    path: Path
    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.program or 'a program'} (pid {self.pid})"


@dataclass(frozen=True)
class Packages:
    """The health of the package system."""

    present: bool
    """Its programs are there at all."""
    unconfigured: tuple[str, ...]
    """`dpkg --configure -a` has work left. rpm keeps no such note."""
    damaged: tuple[str, ...]
    """Half-installed packages, which only a reinstallation mends."""
    broken: str
    """What `apt-get check` or `rpm --verify` complains about: its first such line, or empty."""
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


def packages(family: Family) -> Packages:
    """Read the facts of this machine, whose packages are of that family."""
    match family:
        case Family.DEB:
            return apt_packages()
        case Family.RPM:
            return rpm_packages()
    return Packages(False, (), (), "", None)


def apt_packages() -> Packages:
    """Of apt and dpkg."""
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
        lock=first_lock(APT_LOCKS),
    )


def parse_verify(output: str) -> str:
    """The first complaint of `rpm --verify --all`, about dependencies alone."""
    lines = [line.strip() for line in output.splitlines()]
    for at, line in enumerate(lines):
        if line.startswith("Unsatisfied dependencies for "):
            return " ".join(lines[at : at + 2])
    return ""


def rpm_packages(root: Path = Path("/"), locks: tuple[Path, ...] = RPM_LOCKS) -> Packages:
    """Of dnf and rpm. root: where the packages are."""
    query = ("rpm", "--root", str(root), "--verify", "--all")
    leave_out = ("--nofiles", "--noscripts", "--nodigest", "--nosignature")
    verified = ask(*query, *leave_out, timeout=RPM_SECONDS)
    return Packages(
        present=shutil.which("dnf") is not None and verified.code is not None,
        unconfigured=(),
        damaged=(),
        broken=parse_verify(verified.output),
        lock=first_lock(locks),
    )


def first_lock(paths: Iterable[Path]) -> Lock | None:
    """The first of these that somebody holds."""
    return next((lock for path in paths if (lock := lock_holder(path))), None)


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
