"""What starts ARM servers: emulators, and UEFI firmware, which each distribution has elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Firmware:
    """A pair of flash images: the code, and the template of the variables."""

    code: Path
    variables: Path


@dataclass(frozen=True)
class Emulators:
    """Programs present; None where not installed."""

    aarch64: Path | None
    """qemu-system-aarch64: runs 64-bit and 32-bit guests."""
    arm: Path | None
    """qemu-system-arm: libvirt wants it for 32-bit guests."""


def parse(words: Iterable[str]) -> Iterator[tuple[Path, Path]]:
    """Pairs from the form in which nova.conf has them, CODE:VARIABLES."""
    for word in words:
        code, _, variables = word.partition(":")
        yield Path(code), Path(variables)


def first_present(pairs: Iterable[tuple[Path, Path]]) -> Firmware | None:
    """The first pair of which both files exist."""
    return next(
        (Firmware(code, vars_) for code, vars_ in pairs if code.is_file() and vars_.is_file()),
        None,
    )


def emulators() -> Emulators:
    """Look on the path."""
    return Emulators(
        aarch64=_program("qemu-system-aarch64"),
        arm=_program("qemu-system-arm"),
    )


def _program(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None
