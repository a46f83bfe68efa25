"""What an initial RAM disk brings: modules, the kernel's version, the architecture.

Format: Documentation/driver-api/early-userspace/buffer-format.rst in the Linux source: cpio
archives one after another, each plain or compressed; the first often holds microcode alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dozencloud.images.inspection import artefacts
from dozencloud.images.inspection.kconfig import module_names
from dozencloud.images.inspection.model import Arch, Compression
from dozencloud.images.inspection.unpack import (
    Blob,
    Damaged,
    Source,
    compression_of,
    pieces,
)

MAGICS = (b"070701", b"070702")
HEADER = 110
TRAILER = "TRAILER!!!"

MAX_MEMBERS = 50_000
MAX_ARCHIVES = 16
MAX_NAME = 4096
MAX_UNPACKED = 256 << 20
"""Bytes unpacked of one initial RAM disk; Ubuntu's takes 100 to 200 MB."""
KEPT = 4 << 20
"""Largest program that is kept to be looked at; busybox takes 2 MB."""

MODULES_FOLDER = re.compile(r"(?:^|/)lib/modules/([^/]+)/")


@dataclass(frozen=True)
class Member:
    """One name in the archive. data: of a small program, else empty."""

    name: str
    size: int
    data: bytes = b""


@dataclass(frozen=True)
class Contents:
    """What was found. modules: by name, wherever they lie. whole: it was read to its end."""

    compression: Compression
    version: str = ""
    modules: frozenset[str] = frozenset()
    arch: Arch | None = None
    whole: bool = True


def is_initrd(blob: Blob) -> bool:
    """Whether this is, unpacked or not, a cpio archive."""
    source = _source(blob)
    compression = compression_of(source.peek(16))
    try:
        return Source(pieces(source, compression)).read(6).startswith(MAGICS)
    except Damaged:
        return False


def look(blob: Blob) -> Contents | None:
    """What an initial RAM disk holds; None if it is none."""
    source = _source(blob)
    compression = Compression.NONE
    version = ""
    modules: set[str] = set()
    arch: Arch | None = None
    whole, members = True, 0
    try:
        for packed, member in _members(source):
            compression = packed or compression
            members += 1
            inside = MODULES_FOLDER.search(member.name)
            if inside:
                version = version or inside[1]
            modules |= module_names([member.name]) if ".ko" in member.name else set()
            if member.data and arch is None:
                arch = artefacts.elf_arch(Blob.of(member.data))
    except Damaged:
        whole = False
    if not members:
        return None
    return Contents(compression, version, frozenset(modules), arch, whole)


def _source(blob: Blob) -> Source:
    """The archives, out of the wrapping that U-Boot has for them."""
    source = Source.of(blob)
    head = source.peek(artefacts.UIMAGE.size)
    if artefacts.is_uimage_ramdisk(head):
        source.skip(artefacts.UIMAGE.size)
    return source


def _members(source: Source) -> Iterator[tuple[Compression | None, Member]]:
    """The members of all archives, each with the compression of its archive (None: plain)."""
    budget = _Budget()
    for _ in range(MAX_ARCHIVES):
        # Any number of them joins archives (Linux init/initramfs.c, unpack_to_rootfs).
        budget.spend(source.skip_zeros())
        head = source.peek(16)
        compression = compression_of(head)
        if compression is not Compression.NONE:
            inner = Source(pieces(source, compression))
            while inner.peek(6).startswith(MAGICS):
                for member in walk(inner, budget):
                    yield compression, member
                budget.spend(inner.skip_zeros())
        elif head.startswith(MAGICS):
            for member in walk(source, budget):
                yield None, member
        else:
            return


class _Budget:
    """What may still be unpacked of one initial RAM disk, however many archives it has."""

    def __init__(self) -> None:
        self._bytes = MAX_UNPACKED
        self._members = MAX_MEMBERS

    def spend(self, size: int) -> None:
        self._bytes -= size
        self._members -= 1
        if self._bytes < 0 or self._members < 0:
            raise Damaged("The initial RAM disk holds too much to be looked at.")


def walk(source: Source, budget: _Budget | None = None) -> Iterator[Member]:
    """The members of one cpio archive; Damaged where it breaks off."""
    budget = budget or _Budget()
    while True:
        header = source.read(HEADER)
        if len(header) < HEADER or not header.startswith(MAGICS):
            raise Damaged("The cpio archive is damaged or truncated.")
        try:
            size, name_size = int(header[54:62], 16), int(header[94:102], 16)
        except ValueError:
            raise Damaged("The cpio archive has a damaged header.") from None
        if not 0 < name_size <= MAX_NAME:
            raise Damaged("The cpio archive has a name of absurd length.")
        budget.spend(size + name_size)
        name = source.read(name_size).rstrip(b"\0").decode("utf-8", "replace")
        source.skip(-(HEADER + name_size) % 4)
        if name == TRAILER:
            return
        yield _member(source, name.removeprefix("./"), size)


def _member(source: Source, name: str, size: int) -> Member:
    keep = size <= KEPT and source.peek(4) == b"\x7fELF"
    data = source.read(size) if keep else b""
    complete = len(data) == size if keep else source.skip(size)
    if not complete:
        raise Damaged("The cpio archive is truncated.")
    source.skip(-size % 4)
    return Member(name, size, data)
