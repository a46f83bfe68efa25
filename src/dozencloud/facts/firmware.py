"""What starts ARM servers: emulators and UEFI firmware."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SHARE = Path("/usr/share/AAVMF")
# Debian's and Ubuntu's qemu-efi-aarch64 and qemu-efi-arm; the first that exists is taken.
AARCH64 = (
    (_SHARE / "AAVMF_CODE.no-secboot.fd", _SHARE / "AAVMF_VARS.fd"),
    (_SHARE / "AAVMF_CODE.fd", _SHARE / "AAVMF_VARS.fd"),
)
ARMV7 = ((_SHARE / "AAVMF32_CODE.fd", _SHARE / "AAVMF32_VARS.fd"),)


@dataclass(frozen=True)
class Firmware:
    """A pair of flash images: the code, and the template of the variables."""

    code: Path
    variables: Path


@dataclass(frozen=True)
class Emulators:
    """Programs and firmware present; None where not installed."""

    aarch64: Path | None
    """qemu-system-aarch64: runs 64-bit and 32-bit guests."""
    arm: Path | None
    """qemu-system-arm: libvirt wants it for 32-bit guests."""
    firmware_aarch64: Firmware | None
    firmware_armv7: Firmware | None


def first_present(pairs: Iterable[tuple[Path, Path]]) -> Firmware | None:
    """The first pair of which both files exist."""
    return next(
        (Firmware(code, vars_) for code, vars_ in pairs if code.is_file() and vars_.is_file()),
        None,
    )


def emulators() -> Emulators:
    """Look at the usual places of Debian and Ubuntu."""
    return Emulators(
        aarch64=_program("qemu-system-aarch64"),
        arm=_program("qemu-system-arm"),
        firmware_aarch64=first_present(AARCH64),
        firmware_armv7=first_present(ARMV7),
    )


def _program(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None
