"""Read-only streams under the parsers: counted, cached, unpacked; and the seam for their errors."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import struct
import tempfile
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from backports import zstd
from dissect.util.stream import AlignedStream

from dozencloud.images.inspection.model import Compression
from dozencloud.images.inspection.tree import BadImage

MAX_READS = 2_000_000
"""Reads of the file in one inspection. A large distribution's image takes some thousands; a tree
of blocks that leads back into itself would never end."""
MAX_READ = 256 << 20
"""Bytes that one read may ask for: more than any initrd that firmware loads into a small server."""
CACHED_BLOCK = 64 << 10
"""Bytes: the usual cluster of qcow2, so that a compressed one is unpacked once."""
CACHED_BLOCKS = 256
"""16 MiB together: the metadata that a walk through a file system comes back to."""
MAX_UNPACKED = 16 << 30
"""Bytes to which a compressed image may grow, holes included."""
MAX_SPOOLED = 4 << 30
"""Bytes of it that are written to the work file: what is not zero in a large server image."""
ZSTD_WINDOW_LOG = 27
"""128 MiB: what `zstd -d` itself accepts without being asked for more."""
SPOOL_STEP = 1 << 20
"""Bytes unpacked at a time."""
PACKED_STEP = 256 << 10
"""Compressed bytes read at a time."""
PATIENCE = 12
"""Seconds for which a compressed file is unpacked only to see whether it has its end."""
MAX_XZ_INDEX = 1 << 20
"""Bytes of an xz index: 100,000 blocks."""

_SKIPPABLE = tuple(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16))
"""How a frame that carries no content begins (RFC 8878, 3.1.2)."""
_COMPRESSIONS = {
    b"\x1f\x8b\x08": Compression.GZIP,
    b"\xfd7zXZ\x00": Compression.XZ,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
    b"BZh": Compression.BZIP2,
}


@contextmanager
def seam(what: str) -> Iterator[None]:
    """Turn whatever a library raises on bad bytes into a sentence about `what`."""
    try:
        yield
    except BadImage:
        raise
    except MemoryError:
        raise BadImage(f"{what} asks for more memory than an inspection may take.") from None
    except RecursionError:
        raise BadImage(f"{what} leads back into itself.") from None
    except EOFError:
        raise BadImage(f"{what} ends before it is complete.") from None
    except NotImplementedError as error:
        raise BadImage(
            f"{what} has something that is not read here ({_plain(str(error))}).",
            "Take an image made without it.",
        ) from error
    except Exception as error:
        told = _plain(f"{type(error).__name__}: {error}")
        raise BadImage(f"{what} is damaged ({told}).") from error


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:160]


def printable(name: str) -> str:
    """A name that is not UTF-8, with question marks where it is not."""
    return name.encode("utf-8", "replace").decode()


def compression_of(head: bytes) -> Compression:
    """What is wrapped around the bytes that begin with `head`."""
    # A frame to be skipped may begin a file of LZ4, too; pzstd begins each of its files with one.
    at = 0
    while head.startswith(_SKIPPABLE, at):
        (length,) = struct.unpack_from("<I", head[at : at + 8].ljust(8, b"\0"), 4)
        at += 8 + length
        if at >= len(head):
            return Compression.ZSTD
    return next(
        (c for magic, c in _COMPRESSIONS.items() if head.startswith(magic, at)), Compression.NONE
    )


class Source(AlignedStream):  # type: ignore[misc]
    """The image file, without its name (so no library finds its neighbours), with counted reads."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(size, align=4096)
        self._file = file
        self._reads = 0

    def _read(self, offset: int, length: int) -> bytes:
        self._reads += 1
        if self._reads > MAX_READS:
            raise BadImage(f"The image takes more than {MAX_READS:,} reads: it has no end.")
        length = min(length, self.size - offset)
        if length > MAX_READ:
            raise BadImage(f"The image asks for {length:,} bytes in one piece.")
        self._file.seek(offset)
        return self._file.read(length)


class Cached(AlignedStream):  # type: ignore[misc]
    """A stream whose blocks are kept for a while."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        super().__init__(size, align=CACHED_BLOCK)
        self._stream = stream
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def _read(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if length > MAX_READ:
            raise BadImage(f"The image asks for {length:,} bytes in one piece.")
        if length > CACHED_BLOCK * 4:
            return self._fetch(offset, length)
        return b"".join(
            self._block(start) for start in range(offset, offset + length, CACHED_BLOCK)
        )

    def _block(self, start: int) -> bytes:
        block = self._blocks.pop(start, None)
        if block is None:
            block = self._fetch(start, min(CACHED_BLOCK, self.size - start))
        self._blocks[start] = block
        if len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return block

    def _fetch(self, offset: int, length: int) -> bytes:
        with seam("The disk"):
            self._stream.seek(offset)
            return self._stream.read(length).ljust(length, b"\0")


class Scratch:
    """The work file: an unnamed file into which one compressed stream after another is unpacked."""

    def __init__(self, file: BinaryIO | None = None, folder: Path = Path("/var/tmp")) -> None:  # noqa: S108
        self._file = file
        self._folder = folder
        self._last: Spool | None = None
        self.end = 0
        self.written = 0

    def place(self, spool: Spool) -> int:
        """Where `spool` begins: behind the last one, which is unpacked to its end."""
        if self._last is not None:
            self._last.finish()
        self._last = spool
        return self.end

    def fileno(self) -> int:
        if self._file is None:
            self._file = cast(
                BinaryIO,
                tempfile.TemporaryFile(dir=self._folder),  # noqa: SIM115  (lives as long)
            )
        return self._file.fileno()


class Spool(AlignedStream):  # type: ignore[misc]
    """A compressed stream with random access: unpacked into the work file as far as it is read."""

    def __init__(self, packed: BinaryIO, compression: Compression, scratch: Scratch) -> None:
        super().__init__(MAX_UNPACKED, align=SPOOL_STEP)
        packed.seek(0)
        self._reader = _reader(packed, compression)
        self._scratch = scratch
        self._start = scratch.place(self)
        self._done = 0
        self.complete = False

    def finish(self) -> Ending:
        """Unpack all of it."""
        self._unpack(MAX_UNPACKED + 1)
        return Ending(self._done, self._reader.trailing)

    def _unpack(self, until: int) -> None:
        while not self.complete and self._done < until:
            with seam("The compressed image"):
                piece = self._reader.read(SPOOL_STEP)
            if not piece:
                self.complete = True
                self.size = self._done
                return
            if self._done + len(piece) > MAX_UNPACKED:
                raise BadImage(f"The image unpacks to more than {MAX_UNPACKED >> 30} GiB.")
            if piece.strip(b"\0"):
                self._scratch.written += len(piece)
                if self._scratch.written > MAX_SPOOLED:
                    raise BadImage(
                        f"The image unpacks to more than {MAX_SPOOLED >> 30} GiB of data."
                    )
                with seam("The compressed image"):
                    os.pwrite(self._scratch.fileno(), piece, self._start + self._done)
            self._done += len(piece)
            self._scratch.end = self._start + self._done

    def _read(self, offset: int, length: int) -> bytes:
        self._unpack(offset + length)
        length = max(0, min(length, self._done - offset))
        if length > MAX_READ:
            raise BadImage(f"The image asks for {length:,} bytes in one piece.")
        data = os.pread(self._scratch.fileno(), length, self._start + offset)
        return data.ljust(length, b"\0")


def unpacked_head(head: bytes, compression: Compression, length: int) -> bytes:
    """The first bytes inside of a compressed stream that begins with `head`."""
    found = b""
    with seam("The compressed image"):
        reader = _reader(io.BytesIO(head), compression)
        try:
            while len(found) < length and (piece := reader.read(length - len(found))):
                found += piece
        except EOFError:
            pass
    return found


class Decompressor(Protocol):
    """What Python's modules have in common."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflate:
    """zlib's, for one member of a gzip file, in the shape of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self.needs_input = not self._zlib.unconsumed_tail and len(out) < max_length
        return out


def _zstd() -> Decompressor:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
    return cast(Decompressor, zstd.ZstdDecompressor(options=options))


_DECOMPRESSORS: dict[Compression, tuple[tuple[bytes, ...], Callable[[], Any]]] = {
    Compression.GZIP: ((b"\x1f\x8b\x08",), _Inflate),
    Compression.XZ: ((b"\xfd7zXZ\x00",), lzma.LZMADecompressor),
    Compression.BZIP2: ((b"BZh",), bz2.BZ2Decompressor),
    Compression.ZSTD: ((b"\x28\xb5\x2f\xfd", *_SKIPPABLE), _zstd),
}
"""How another piece of the same kind begins, and what unpacks it."""


class Unpacked:
    """The content of a compressed file: of all its members, streams or frames.

    trailing: bytes behind the last one that are no padding; a router's image has its metadata
    there. All that the usual programs do with them is to warn.
    """

    def __init__(self, packed: BinaryIO, compression: Compression) -> None:
        self._packed = packed
        self._magics, self._new = _DECOMPRESSORS[compression]
        self._one: Decompressor | None = self._new()
        self._ahead = b""
        self.trailing = 0

    def read(self, size: int) -> bytes:
        """At least a byte and at most `size`; empty at the end. EOFError where it is cut off."""
        while self._one is not None:
            if self._one.eof:
                self._next(self._one.unused_data)
                continue
            data = self._take() if self._one.needs_input else b""
            if self._one.needs_input and not data:
                raise EOFError
            out = self._one.decompress(data, size)
            if out:
                return out
        return b""

    def _take(self) -> bytes:
        data, self._ahead = self._ahead or self._packed.read(PACKED_STEP), b""
        return data

    def _next(self, rest: bytes) -> None:
        """Go on with what follows a member, which may begin with padding."""
        rest = rest.lstrip(b"\0")
        while len(rest) < max(map(len, self._magics)) and (more := self._packed.read(PACKED_STEP)):
            rest = (rest + more).lstrip(b"\0")
        if rest.startswith(self._magics):
            self._one, self._ahead = self._new(), rest
            return
        if rest and any(magic.startswith(rest) for magic in self._magics):
            raise EOFError
        here = self._packed.tell()
        self._one, self.trailing = None, len(rest) + self._packed.seek(0, 2) - here


def _reader(packed: BinaryIO, compression: Compression) -> Unpacked:
    return Unpacked(packed, compression)


@dataclass(frozen=True)
class Ending:
    """How a compressed file ends. size: bytes that it unpacks to; 0 if that took too long.

    trailing: bytes behind its end that are none of it.
    """

    size: int = 0
    trailing: int = 0


def ending(packed: BinaryIO, size: int, compression: Compression) -> Ending:
    """Unpack to the end, or ask an index that is whole; BadImage where the file is cut off."""
    with seam("The compressed image"):
        if compression is Compression.XZ and (known := _xz_size(packed, size)):
            return Ending(known)
        packed.seek(0)
        reader, done, began = _reader(packed, compression), 0, time.monotonic()
        while piece := reader.read(SPOOL_STEP):
            done += len(piece)
            if time.monotonic() - began > PATIENCE:
                return Ending()
        return Ending(done, reader.trailing)


def _xz_size(packed: BinaryIO, size: int) -> int:
    """Bytes that an xz file unpacks to, by the indexes of its streams; 0 where they do not fit.

    The .xz File Format, 2 and 4: they lie at the end of each stream, and say how long it is.
    """
    total, end = 0, size
    while end > 0:
        packed.seek(max(0, end - 12))
        footer = packed.read(12)
        if footer[8:] == bytes(4):
            end -= 4
            continue
        unpacked, length = _xz_stream(packed, footer, end)
        packed.seek(max(0, end - length))
        if not length or packed.read(6) != b"\xfd7zXZ\x00":
            return 0
        total, end = total + unpacked, end - length
    return total if end == 0 else 0


def _xz_stream(packed: BinaryIO, footer: bytes, end: int) -> tuple[int, int]:
    """Bytes that the stream that ends there unpacks to, and that it takes; 0, 0 if it is none."""
    if footer[10:] != b"YZ":
        return 0, 0
    length = (struct.unpack("<I", footer[4:8])[0] + 1) * 4
    if length > min(MAX_XZ_INDEX, end - 24):
        return 0, 0
    packed.seek(end - 12 - length)
    index = packed.read(length)
    records, at = _varint(index, 1)
    total, taken = 0, 12 + length + 12
    for _ in range(min(records, length)):
        size, at = _varint(index, at)
        unpacked, at = _varint(index, at)
        total, taken = total + unpacked, taken + -(-size // 4) * 4
    return total, min(taken, end)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            return value, at
