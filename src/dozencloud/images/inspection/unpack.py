"""Compressed bytes read piece by piece, never more than asked for: a bomb stays in its shell."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from dozencloud.images.inspection import lz4
from dozencloud.images.inspection.model import Compression
from dozencloud.images.inspection.tree import BadImage, Tree

PIECE = 256 << 10
"""Bytes that one step takes in or gives out."""
DICTIONARY = 128 << 20
"""Largest dictionary of xz, lzma and zstd: what the build of a 32-bit kernel asks xz for. Memory is
taken only as far as the dictionary is filled."""
OVERHEAD = 16 << 20
ZSTD_INPUT = 256
"""zstd gives all that its input makes, at most 128 KiB for 4 bytes: so 8 MiB for this."""

MAGICS = (
    (b"\x1f\x8b\x08", Compression.GZIP),
    (b"\xfd7zXZ\x00", Compression.XZ),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    (b"BZh", Compression.BZIP2),
    (lz4.LEGACY, Compression.LZ4),
    (lz4.FRAME, Compression.LZ4),
    (b"\x5d\x00\x00", Compression.LZMA),
)


class Damaged(BadImage):
    """Compressed bytes that do not unpack."""


def compression_of(head: bytes) -> Compression:
    """What the first bytes are compressed with."""
    for magic, compression in MAGICS:
        if head.startswith(magic):
            return compression
    return Compression.NONE


class Blob:
    """Bytes at an offset of something that is not read whole: a file, or a part of one."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self.size = max(0, size)

    @classmethod
    def of(cls, data: bytes) -> Blob:
        """Bytes that are in memory already."""
        return cls(lambda offset, length: data[offset : offset + length], len(data))

    @classmethod
    def of_file(cls, file: BinaryIO) -> Blob:
        """A seekable file."""

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        return cls(read, file.seek(0, 2))

    @classmethod
    def of_path(cls, tree: Tree, path: str) -> Blob | None:
        """A file in a tree; None if there is none."""
        where = tree.resolve(path)
        node = None if where is None else tree.store.node(where)
        if where is None or node is None or not node.is_file:
            return None
        real = where
        return cls(lambda offset, length: tree.store.read(real, offset, length), node.size)

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes; fewer, or none, at the end."""
        if offset < 0 or offset >= self.size or length <= 0:
            return b""
        return self._read(offset, min(length, self.size - offset))

    def part(self, offset: int, length: int) -> Blob:
        """Some of it, which never reaches past the whole."""
        offset = max(0, offset)
        length = max(0, min(length, self.size - offset))
        return Blob(lambda at, count: self.read(offset + at, min(count, length - at)), length)


class Source:
    """Bytes that come in pieces, read from front to back."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._waiting = b""
        self._at = 0
        """How much of what is waiting was read. To copy the rest for each header takes seconds."""

    @classmethod
    def of(cls, blob: Blob) -> Source:
        """A blob from its first byte."""
        return cls(blob.read(at, PIECE) for at in range(0, blob.size, PIECE))

    def read(self, count: int = PIECE, /) -> bytes:
        """The next bytes; fewer only at the end."""
        data = self.peek(count)
        self._at += len(data)
        return data

    def peek(self, count: int) -> bytes:
        """The next bytes, which stay."""
        self._fill(count)
        return self._waiting[self._at : self._at + count]

    def skip(self, count: int) -> bool:
        """Pass over bytes; False if there were fewer."""
        while count > 0:
            self._fill(1)
            step = min(count, len(self._waiting) - self._at)
            if not step:
                return False
            self._at += step
            count -= step
        return True

    def skip_zeros(self) -> int:
        """Pass over zero bytes; how many there were."""
        count = 0
        while data := self.read(PIECE):
            rest = data.lstrip(b"\0")
            count += len(data) - len(rest)
            if rest:
                self.unread(rest)
                break
        return count

    def unread(self, data: bytes) -> None:
        """Give bytes back, to be read next."""
        self._waiting, self._at = data + self._waiting[self._at :], 0

    def _fill(self, count: int) -> None:
        """Have so many bytes waiting, where there are as many."""
        missing = count - (len(self._waiting) - self._at)
        if missing <= 0:
            return
        parts = [self._waiting[self._at :]]
        while missing > 0 and (more := next(self._pieces, b"")):
            parts.append(more)
            missing -= len(more)
        self._waiting, self._at = b"".join(parts), 0


class _Decompressor(Protocol):
    """What gzip, xz, lzma and bzip2 have in common (bz2.BZ2Decompressor)."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib with the face of the other decompressors."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


class _Zstd:
    """zstd, whose errors are the others' here.

    Loaded when it is needed: a 32-bit node has no such library, and starts no kernel in zstd.
    """

    def __init__(self) -> None:
        from backports import zstd

        window: dict[int, int] = {
            zstd.DecompressionParameter.window_log_max: DICTIONARY.bit_length() - 1
        }
        self._zstd = zstd.ZstdDecompressor(options=window)
        self._error = zstd.ZstdError

    @property
    def eof(self) -> bool:
        return self._zstd.eof

    @property
    def needs_input(self) -> bool:
        return self._zstd.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._zstd.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            return self._zstd.decompress(data, max_length)
        except self._error as error:
            raise ValueError(str(error)) from None


def _decompressor(compression: Compression) -> _Decompressor:
    if compression is Compression.GZIP:
        return _Gzip()
    if compression is Compression.BZIP2:
        return bz2.BZ2Decompressor()
    if compression is Compression.ZSTD:
        return _Zstd()
    if compression is Compression.LZMA:
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=DICTIONARY + OVERHEAD)
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DICTIONARY + OVERHEAD)


def pieces(source: Source, compression: Compression) -> Iterator[bytes]:
    """What one compressed stream at the front of `source` holds, piece by piece.

    Afterwards `source` stands behind the stream (not for LZ4's legacy frame, which has no end).
    Damaged if it does not unpack.
    """
    try:
        if compression is Compression.NONE:
            while data := source.read():
                yield data
        elif compression is Compression.LZ4:
            yield from lz4.blocks(source)
        else:
            yield from _stream(source, _decompressor(compression))
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
        raise Damaged(f"What is compressed with {compression} does not unpack.") from None


def _stream(source: Source, unpacker: _Decompressor) -> Iterator[bytes]:
    while not unpacker.eof:
        hungry = unpacker.needs_input
        data = source.read(PIECE) if hungry else b""
        out = unpacker.decompress(data, PIECE)
        if out:
            yield out
        elif hungry and not data and not unpacker.eof:
            raise EOFError
    source.unread(unpacker.unused_data)


def unpack(blob: Blob, compression: Compression, limit: int) -> bytes:
    """A compressed stream unpacked, at most `limit` bytes of it.

    What unpacked before the damage is kept: a kernel's build puts its size behind the stream.
    """
    out = io.BytesIO()
    try:
        for piece in pieces(Source.of(blob), compression):
            out.write(piece)
            if out.tell() >= limit:
                break
    except Damaged:
        if not out.tell():
            raise
    out.truncate(limit)
    return out.getvalue()
