"""Streams under the parsers: unpacking as far as needed, bounds, and errors as sentences."""

import bz2
import gzip
import io
import lzma
import os
from pathlib import Path

import pytest
from backports import zstd

from dozencloud.images.inspection import streams
from dozencloud.images.inspection.model import Compression
from dozencloud.images.inspection.streams import Cached, Scratch, Source, Spool, seam
from dozencloud.images.inspection.tree import BadImage

DATA = os.urandom(3 << 20) + bytes(4 << 20) + b"the end"
PACKERS = {
    Compression.GZIP: gzip.compress,
    Compression.XZ: lzma.compress,
    Compression.ZSTD: zstd.compress,
    Compression.BZIP2: bz2.compress,
}
PACKED = {kind: pack(DATA) for kind, pack in PACKERS.items()}


@pytest.mark.parametrize("kind", PACKED)
def test_spool_unpacks_as_far_as_it_is_read(kind: Compression, tmp_path: Path) -> None:
    assert streams.compression_of(PACKED[kind]) is kind
    scratch = Scratch(folder=tmp_path)
    spool = Spool(io.BytesIO(PACKED[kind]), kind, scratch)
    spool.seek(2 << 20)
    assert spool.read(100) == DATA[2 << 20 : (2 << 20) + 100]
    assert scratch.end < len(DATA) and not spool.complete
    assert spool.finish().size == len(DATA) == spool.size
    spool.seek(-7, io.SEEK_END)
    assert spool.read() == b"the end"
    spool.seek(0)
    assert spool.read() == DATA
    assert scratch.written < len(DATA) - (2 << 20)  # holes are not written
    assert not list(tmp_path.iterdir())  # the file has no name


def test_frames_to_be_skipped(tmp_path: Path) -> None:
    skipped = b"\x5f\x2a\x4d\x18\4\0\0\0abcd\x50\x2a\x4d\x18\0\0\0\0"
    packed = skipped + PACKED[Compression.ZSTD]
    assert streams.compression_of(packed) is Compression.ZSTD
    assert streams.compression_of(packed[:8]) is Compression.ZSTD
    assert streams.compression_of(skipped + b"\x04\x22\x4d\x18" + bytes(9)) is Compression.NONE
    assert streams.compression_of(skipped[12:] * (1 << 17)) is Compression.ZSTD
    assert streams.unpacked_head(packed, Compression.ZSTD, 99) == DATA[:99]
    assert Spool(io.BytesIO(packed), Compression.ZSTD, Scratch(folder=tmp_path)).read() == DATA


def test_two_streams_share_a_work_file(tmp_path: Path) -> None:
    scratch = Scratch(folder=tmp_path)
    first = Spool(io.BytesIO(gzip.compress(b"a" * 5000)), Compression.GZIP, scratch)
    second = Spool(io.BytesIO(lzma.compress(b"b" * 5000)), Compression.XZ, scratch)
    assert (second.read(), first.read()) == (b"b" * 5000, b"a" * 5000)


@pytest.mark.parametrize("kind", PACKED)
def test_cut_off_or_damaged(kind: Compression, tmp_path: Path) -> None:
    packed = PACKED[kind]
    for bad in (packed[: len(packed) // 2], packed[:8] + b"\xff" * 4000 + packed[4008:]):
        spool = Spool(io.BytesIO(bad), kind, Scratch(folder=tmp_path))
        with pytest.raises(BadImage, match=r"damaged|ends before"):
            spool.finish()


@pytest.mark.parametrize(
    ("limit", "data", "sentence"),
    [("MAX_UNPACKED", bytes(9 << 20), "unpacks to more"), ("MAX_SPOOLED", DATA, "of data")],
)
def test_bombs(
    limit: str, data: bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, limit, 2 << 20)
    spool = Spool(io.BytesIO(gzip.compress(data)), Compression.GZIP, Scratch(folder=tmp_path))
    with pytest.raises(BadImage, match=sentence):
        spool.finish()


SMALL = os.urandom(20_000) + bytes(60_000) + b"the end"
SMALL_PACKED = {kind: pack(SMALL) for kind, pack in PACKERS.items()}


def ending(packed: bytes, kind: Compression) -> streams.Ending:
    return streams.ending(io.BytesIO(packed), len(packed), kind)


@pytest.mark.parametrize("kind", PACKED)
def test_the_end_of_what_is_whole(kind: Compression, tmp_path: Path) -> None:
    one, whole = SMALL_PACKED[kind], len(SMALL)
    assert ending(one, kind) == streams.Ending(whole)
    assert ending(one + one, kind) == streams.Ending(2 * whole)
    assert ending(one + bytes(4096), kind) == streams.Ending(whole)
    assert ending(one + bytes(8) + one, kind) == streams.Ending(2 * whole)
    metadata = b'{"metadata_version": "1.1"}FWx0'
    assert ending(one + metadata, kind) == streams.Ending(whole, len(metadata))
    spool = Spool(io.BytesIO(one + metadata), kind, Scratch(folder=tmp_path))
    assert spool.finish().size == whole


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("times", [1, 2])
def test_wherever_it_is_cut_off_that_is_said(kind: Compression, times: int) -> None:
    packed = SMALL_PACKED[kind] * times
    first = len(SMALL_PACKED[kind])
    places = {*range(8, len(packed), 397), *range(len(packed) - 30, len(packed))} - {first}
    for place in sorted(places):
        with pytest.raises(BadImage, match="ends before it is complete"):
            ending(packed[:place], kind)


def test_an_index_tells_the_size_without_unpacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_reader", None)
    packed = PACKED[Compression.XZ]
    assert ending(packed + bytes(4) + packed, Compression.XZ).size == 2 * len(DATA)


def test_what_takes_long_is_not_unpacked_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PATIENCE", -1)
    assert ending(PACKED[Compression.GZIP], Compression.GZIP) == streams.Ending()


def test_source_counts_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_READS", 10)
    source = Source(io.BytesIO(DATA), len(DATA))
    with pytest.raises(BadImage, match="10 reads"):
        for offset in range(0, len(DATA), 8192):
            source.seek(offset)
            source.read(1)


def test_cached_gives_the_same_bytes() -> None:
    cached = Cached(io.BytesIO(DATA), len(DATA))
    for offset, length in ((0, 10), (65530, 20), (1 << 20, 1 << 20), (len(DATA) - 7, 100)):
        cached.seek(offset)
        assert cached.read(length) == DATA[offset : offset + length]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RecursionError(), "The thing leads back into itself."),
        (MemoryError(), "more memory than"),
        (EOFError(), "ends before it is complete."),
        (ValueError("bad \x1b[31m value"), r"damaged \(ValueError: bad \?\[31m value\)"),
        (NotImplementedError("RAID6"), r"^The thing has something that is not read here \(RAID6\)"),
        (BadImage("as it is"), "^as it is$"),
    ],
)
def test_seam(error: Exception, sentence: str) -> None:
    with pytest.raises(BadImage, match=sentence), seam("The thing"):
        raise error
