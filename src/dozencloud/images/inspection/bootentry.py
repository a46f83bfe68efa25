"""What a boot loader starts, whichever loader it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LIMIT = 512 << 10
"""Bytes read of one configuration; a grub.cfg of forty kernels has 60 KB."""
MAX_LINE = 8192
MAX_ENTRIES = 256


@dataclass(frozen=True)
class Entry:
    """One thing to boot. kernel, initrds: paths as the loader names them. arguments: split.

    sure: which initrds it has follows from the configuration alone.
    """

    name: str = ""
    title: str = ""
    kernel: str = ""
    initrds: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    version: str = ""
    sure: bool = True


def listed(value: str) -> tuple[str, ...]:
    """Paths between commas."""
    return tuple(path for each in value.split(",") if (path := each.strip()))


def named_initrds(arguments: Iterable[str]) -> tuple[str, ...]:
    """The initrds among the arguments, where the loader or the kernel's EFI stub reads them."""
    values = [a.partition("=")[2] for a in arguments if a.startswith("initrd=")]
    return tuple(slashes(path) for value in values for path in listed(value))


def slashes(path: str) -> str:
    """A path of EFI, which has backslashes too."""
    return path.replace("\\", "/")


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts 6.10 behind 6.9."""
    parts = re.findall(r"\d+|\D+", text)[:64]
    return tuple((int(part[:18]), "") if part[0] in "0123456789" else (-1, part) for part in parts)
