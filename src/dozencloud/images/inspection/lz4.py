"""LZ4's frames, as kernels and initial RAM disks use them; the blocks in them are the library's.

Formats: lz4_Block_format.md and lz4_Frame_format.md of the LZ4 project. `lz4 -l`, which the build
of a kernel uses, writes the legacy frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

LEGACY = b"\x02\x21\x4c\x18"
FRAME = b"\x04\x22\x4d\x18"

LEGACY_BLOCK = 8 << 20
BLOCK_SIZES = {4: 64 << 10, 5: 256 << 10, 6: 1 << 20, 7: 4 << 20}
"""Largest unpacked block, by the number in the frame's BD byte."""
WINDOW = (64 << 10) - 1
"""How far a match can reach back."""
MATCH = 4
"""Bytes of the shortest match."""
WINDOW_LITERALS = b"\xf0" + b"\xff" * 256 + b"\xf0"  # 15 + 256 * 255 + 240
"""How a sequence begins that writes as many bytes as the window has, and then a shortest match."""


class BadLz4(ValueError):
    """The bytes are not LZ4, or are damaged."""


class Reader(Protocol):
    """What is decoded from."""

    def read(self, count: int, /) -> bytes:
        """The next bytes; fewer at the end."""


def blocks(source: Reader) -> Iterator[bytes]:
    """The unpacked blocks, one after another."""
    magic = source.read(4)
    if magic == LEGACY:
        yield from _legacy(source)
    elif magic == FRAME:
        yield from _frame(source)
    else:
        raise BadLz4("no LZ4 frame")


def _legacy(source: Reader) -> Iterator[bytes]:
    """Blocks without an end mark. The kernel's build puts the unpacked size after the last."""
    total = 0
    while len(raw := source.read(4)) == 4:
        (size,) = struct.unpack("<I", raw)
        if raw == LEGACY or size in (0, total):
            continue
        if size > LEGACY_BLOCK + LEGACY_BLOCK // 255 + 16:
            return
        data = source.read(size)
        if len(data) < size:
            raise BadLz4("truncated")
        out = block(data, LEGACY_BLOCK)
        total += len(out)
        yield out


def _frame(source: Reader) -> Iterator[bytes]:
    flags, descriptor = _exactly(source, 2)
    limit = BLOCK_SIZES.get(descriptor >> 4 & 7)
    if flags >> 6 != 1 or limit is None:
        raise BadLz4("unknown version of the frame")
    _exactly(source, (8 if flags & 8 else 0) + (4 if flags & 1 else 0) + 1)
    independent, checksum = flags & 0x20, flags & 0x10
    window = b""
    while size := struct.unpack("<I", _exactly(source, 4))[0]:
        stored, size = size >> 31, size & 0x7FFFFFFF
        if size > limit:
            raise BadLz4("a block is larger than its frame allows")
        data = _exactly(source, size)
        out = data if stored else block(data, limit, b"" if independent else window)
        if checksum:
            _exactly(source, 4)
        window = (window + out)[-WINDOW:]
        yield out


def _exactly(source: Reader, count: int) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise BadLz4("truncated")
    return data


def block(data: bytes, limit: int, window: bytes = b"") -> bytes:
    """One block unpacked, at most `limit` bytes; ValueError if it is damaged or gives more.

    window: what was unpacked before it. The library knows of none, so a sequence before the block
    writes it there: the window, its end in front, and a match that copies this end behind it.
    """
    # Nova and Glance import this module, and unpack nothing themselves.
    from dissect.util.compression import lz4 as library

    if not window:
        return bytes(library.decompress(data, limit))
    before = window.rjust(WINDOW, b"\0")
    literals = before[-MATCH:] + before[:-MATCH]
    primed = WINDOW_LITERALS + literals + struct.pack("<H", WINDOW) + data
    return bytes(library.decompress(primed, MATCH + WINDOW + limit)[MATCH + WINDOW :])
