"""Initial RAM disks: what is in them, also of hostile ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from images_kit import ELF7, ELF64, arm64_image, initrd, uimage

from dozencloud.images.inspection import initrds
from dozencloud.images.inspection.model import Arch, Compression
from dozencloud.images.inspection.unpack import Blob, Source

PACKERS: tuple[tuple[Compression, Callable[[bytes], bytes]], ...] = (
    (Compression.NONE, bytes),
    (Compression.GZIP, gzip.compress),
    (Compression.XZ, lzma.compress),
    (Compression.ZSTD, zstd.compress),
    (Compression.BZIP2, bz2.compress),
    (Compression.LZMA, lambda data: lzma.compress(data, lzma.FORMAT_ALONE)),
)


@pytest.mark.parametrize(("compression", "pack"), PACKERS)
@pytest.mark.parametrize("before", [b"", initrd(program=ELF64) + bytes(512)])
def test_what_it_brings(
    compression: Compression, pack: Callable[[bytes], bytes], before: bytes
) -> None:
    data = before + pack(initrd("virtio_blk", "virtio-net", program=ELF64)) + bytes(8)
    found = initrds.look(Blob.of(data))
    assert found is not None
    assert found.compression is compression
    assert found.version == "6.12.0-arm64"
    assert found.modules == {"dummy", "virtio_blk", "virtio_net"}
    assert found.arch is Arch.AARCH64
    assert found.whole


@pytest.mark.parametrize("zeros", [0, 1, 2, 3, 7, 512, 1 << 20])
def test_zero_bytes_join_archives(zeros: int) -> None:
    between = bytes(zeros)
    inner = initrd(program=ELF64) + between + initrd("virtio_net")
    found = initrds.look(Blob.of(gzip.compress(inner) + between + gzip.compress(initrd("dm"))))
    assert found is not None
    assert found.whole
    assert {"virtio_net", "dm"} <= found.modules


def test_the_wrapping_of_u_boot() -> None:
    data = uimage(gzip.compress(initrd(program=ELF7)), kind=3)
    found = initrds.look(Blob.of(data))
    assert found is not None
    assert (found.arch, found.compression) == (Arch.ARMV7L, Compression.GZIP)


@pytest.mark.parametrize(
    ("data", "is_one"),
    [
        (initrd(), True),
        (gzip.compress(initrd()), True),
        (bz2.compress(initrd()), True),
        (gzip.compress(arm64_image()), False),
        (gzip.compress(b"hello"), False),
        (b"\x1f\x8b\x08damaged", False),
        (arm64_image(), False),
        (b"", False),
    ],
)
def test_what_is_one(data: bytes, is_one: bool) -> None:
    assert initrds.is_initrd(Blob.of(data)) is is_one


def member(name: bytes, size: int, data: bytes = b"", name_size: int | None = None) -> bytes:
    """One member whose header says what it likes."""
    fields = [0, 0o100644, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size or len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    return head + bytes(-len(head) % 4) + data


HOSTILE = (
    ("absurd size", member(b"x", 0xFFFFFFFF)),
    ("absurd name", member(b"x", 0, name_size=0xFFFFFFFF)),
    ("no name", member(b"", 0, name_size=1)[:94] + b"0" * 8),
    ("not a number", member(b"x", 0).replace(b"000081a4", b"0000zzzz")[:54] + b"zzzzzzzz" * 9),
    ("cut short", initrd("virtio_blk")[:300]),
    ("members without end", member(b"x", 0) * 60_000),
    ("a bomb of one file", gzip.compress(member(b"x", 200 << 20) + bytes(200 << 20))),
    ("a bomb of archives", gzip.compress(member(b"x", 100 << 20) + bytes(100 << 20)) * 9),
    ("a bomb of zeros", gzip.compress(initrd("virtio_blk") + bytes(300 << 20))),
    ("compressed in itself", gzip.compress(gzip.compress(initrd()))),
)


@pytest.mark.parametrize("data", [case[1] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_ones_end_soon(data: bytes) -> None:
    began = time.process_time()
    found = initrds.look(Blob.of(data))
    assert found is None or not found.whole
    assert time.process_time() - began < 5


@settings(derandomize=True, deadline=timedelta(seconds=2), max_examples=150)
@given(
    st.sampled_from([pack(initrd("virtio_blk")) for _, pack in PACKERS]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
)
def test_flipped_bytes_end_in_an_answer(seed: bytes, flips: list[tuple[int, int]]) -> None:
    data = bytearray(seed)
    for at, value in flips:
        if at < len(data):
            data[at] = value
    found = initrds.look(Blob.of(bytes(data)))
    assert found is None or found.compression in Compression


@given(
    st.lists(st.binary(min_size=1, max_size=9), max_size=9),
    st.lists(st.tuples(st.sampled_from(("read", "peek", "skip", "unread")), st.integers(0, 20))),
)
def test_bytes_come_in_their_order_however_they_are_asked_for(
    pieces: list[bytes], asked: list[tuple[str, int]]
) -> None:
    source, left = Source(iter(pieces)), b"".join(pieces)
    for how, count in asked:
        if how == "skip":
            assert source.skip(count) is (count <= len(left))
        elif how == "unread":
            source.unread(bytes(count))
            left = bytes(count) + left
        else:
            assert getattr(source, how)(count) == left[:count]
        left = left[count:] if how in ("read", "skip") else left
    assert source.read() == left
