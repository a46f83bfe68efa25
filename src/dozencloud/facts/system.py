"""Which system this is: distribution, architecture, user, init, Python, clock."""

from __future__ import annotations

import os
import platform
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from dozencloud.facts.run import ask

DPKG_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm": "armhf"}
"""rpm's word for an architecture (%_arch) -> dpkg's."""

RELEASE_YEAR = 2026
# A clock that jumps far ahead breaks TLS as surely as one that starts at 1970.
LAST_PLAUSIBLE_YEAR = RELEASE_YEAR + 20


class Family(StrEnum):
    """Whose packages a system is made of."""

    DEB = "deb"
    RPM = "rpm"
    OTHER = ""


FAMILIES = {"debian": Family.DEB, "ubuntu": Family.DEB, "fedora": Family.RPM}


@dataclass(frozen=True)
class OsRelease:
    """What /etc/os-release says (os-release(5)).

    like: ids of what it is made from, the nearest first.
    """

    id: str
    version: str
    codename: str
    pretty: str
    like: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        names = (self.id, *self.like)
        return next((FAMILIES[name] for name in names if name in FAMILIES), Family.OTHER)


@dataclass(frozen=True)
class Architecture:
    """`kernel` as uname says it (aarch64), `packages` as dpkg says it (arm64), or would.

    They differ on purpose: a 64-bit kernel under a 32-bit userland is common on boards.
    `packages` is empty where neither dpkg nor rpm is the system's.
    """

    kernel: str
    packages: str

    @property
    def arm(self) -> bool:
        return self.kernel == "aarch64" or self.kernel.startswith("arm")

    @property
    def small(self) -> bool:
        """A 32-bit board. (The KVM of a 64-bit kernel needs 64-bit programs.)"""
        return self.packages == "armhf" and self.kernel.startswith("armv")


@dataclass(frozen=True)
class System:
    """The system and the process that asks."""

    distribution: OsRelease
    architecture: Architecture
    root: bool
    systemd: bool
    """systemd runs this machine (sd_booted(3)), not merely: is installed."""
    python: str
    kernel: str
    now: datetime

    @property
    def clock_plausible(self) -> bool:
        return plausible(self.now)


def parse_os_release(text: str) -> OsRelease:
    """Read os-release; missing fields are empty, as on Debian testing (no VERSION_ID)."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        if not separator or name.startswith("#"):
            continue
        try:
            fields[name] = " ".join(shlex.split(value))
        except ValueError:
            fields[name] = value
    return OsRelease(
        id=fields.get("ID", "linux"),
        version=fields.get("VERSION_ID", ""),
        codename=fields.get("VERSION_CODENAME", ""),
        pretty=fields.get("PRETTY_NAME", "") or fields.get("NAME", "an unknown Linux"),
        like=tuple(fields.get("ID_LIKE", "").split()),
    )


def plausible(now: datetime) -> bool:
    """Whether certificates made today can be valid at `now`."""
    return RELEASE_YEAR <= now.year <= LAST_PLAUSIBLE_YEAR


def os_release() -> OsRelease:
    """Of the running system."""
    for path in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        if path.is_file():
            return parse_os_release(path.read_text(errors="replace"))
    return parse_os_release("")


def packages_architecture(family: Family) -> str:
    """What the system's packages are for, as dpkg says it (arm64); empty where unknown."""
    match family:
        case Family.DEB:
            return ask("dpkg", "--print-architecture").output.strip()
        case Family.RPM:
            said = ask("rpm", "--eval", "%{_arch}").output.strip()
            return DPKG_ARCHITECTURES.get(said, said)
    return ""


def system() -> System:
    """Read the facts of the running system."""
    release = os_release()
    return System(
        distribution=release,
        architecture=Architecture(
            kernel=platform.machine(),
            packages=packages_architecture(release.family),
        ),
        root=os.geteuid() == 0,
        systemd=Path("/run/systemd/system").is_dir(),
        python=platform.python_version(),
        kernel=platform.release(),
        now=datetime.now(UTC),
    )
