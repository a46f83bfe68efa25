"""Which system this is: distribution, architecture, user, init, Python, clock."""

from __future__ import annotations

import os
import platform
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dozencloud.facts.run import ask

SUPPORTED = {("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")}
SUPPORTED_NAMES = "Debian 12, Debian 13 and Ubuntu 24.04"
SUPPORTED_ARCHITECTURES = {"amd64", "arm64"}
FOR_BOARDS = {("debian", "12")}
"""Where a 32-bit board can be a node: Debian 13 has no Open vSwitch for armhf."""
FOR_BOARDS_NAME = "Debian 12"

RELEASE_YEAR = 2026
# A clock that jumps far ahead breaks TLS as surely as one that starts at 1970.
LAST_PLAUSIBLE_YEAR = RELEASE_YEAR + 20


@dataclass(frozen=True)
class Distribution:
    """What /etc/os-release says (os-release(5))."""

    id: str
    version: str
    codename: str
    pretty: str

    @property
    def supported(self) -> bool:
        return (self.id, self.version) in SUPPORTED


@dataclass(frozen=True)
class Architecture:
    """`kernel` as uname says it (aarch64), `packages` as dpkg says it (arm64).

    They differ on purpose: a 64-bit kernel under a 32-bit userland is common on boards.
    `packages` is empty where there is no dpkg.
    """

    kernel: str
    packages: str

    @property
    def arm(self) -> bool:
        return self.kernel == "aarch64" or self.kernel.startswith("arm")

    @property
    def supported(self) -> bool:
        """Fit for a controller, and for a node."""
        return self.packages in SUPPORTED_ARCHITECTURES

    @property
    def small(self) -> bool:
        """A 32-bit board. (The KVM of a 64-bit kernel needs 64-bit programs.)"""
        return self.packages == "armhf" and self.kernel.startswith("armv")


@dataclass(frozen=True)
class System:
    """The system and the process that asks."""

    distribution: Distribution
    architecture: Architecture
    root: bool
    systemd: bool
    """systemd runs this machine (sd_booted(3)), not merely: is installed."""
    python: str
    kernel: str
    now: datetime

    @property
    def board(self) -> bool:
        """A 32-bit board that can be a node."""
        return self.architecture.small and (self.distribution.id, self.distribution.version) in (
            FOR_BOARDS
        )

    @property
    def clock_plausible(self) -> bool:
        return plausible(self.now)


def parse_os_release(text: str) -> Distribution:
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
    return Distribution(
        id=fields.get("ID", "linux"),
        version=fields.get("VERSION_ID", ""),
        codename=fields.get("VERSION_CODENAME", ""),
        pretty=fields.get("PRETTY_NAME", "") or fields.get("NAME", "an unknown Linux"),
    )


def plausible(now: datetime) -> bool:
    """Whether certificates made today can be valid at `now`."""
    return RELEASE_YEAR <= now.year <= LAST_PLAUSIBLE_YEAR


def system() -> System:
    """Read the facts of the running system."""
    return System(
        distribution=parse_os_release(_os_release()),
        architecture=Architecture(
            kernel=platform.machine(),
            packages=ask("dpkg", "--print-architecture").output.strip(),
        ),
        root=os.geteuid() == 0,
        systemd=Path("/run/systemd/system").is_dir(),
        python=platform.python_version(),
        kernel=platform.release(),
        now=datetime.now(UTC),
    )


def _os_release() -> str:
    for path in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        if path.is_file():
            return path.read_text(errors="replace")
    return ""
