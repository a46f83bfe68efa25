"""Kernels, EFI programs and user programs by their bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images_kit import (
    AARCH64,
    ARM,
    ELF6,
    ELF7,
    ELF64,
    I386,
    RISCV,
    X86_64,
    arm64_image,
    bzimage,
    elf,
    kernel32,
    pe,
    uimage,
    zboot,
    zimage,
)

from dozencloud.images.inspection import artefacts, lz4
from dozencloud.images.inspection.model import Arch, Compression, KernelKind
from dozencloud.images.inspection.tree import BadImage
from dozencloud.images.inspection.unpack import Blob, Damaged, compression_of, unpack

quick = settings(
    derandomize=True,
    deadline=timedelta(seconds=2),
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def xz_alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


def lz4_tool(*options: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        if shutil.which("lz4") is None:
            pytest.skip("lz4 is not installed")
        return subprocess.run(
            ["lz4", *options, "-c"], input=data, capture_output=True, check=True
        ).stdout

    return pack


PACKERS: dict[str, tuple[Compression, Callable[[bytes], bytes]]] = {
    "gzip": (Compression.GZIP, gzip.compress),
    "xz": (Compression.XZ, lzma.compress),
    "zstd": (Compression.ZSTD, zstd.compress),
    "bzip2": (Compression.BZIP2, bz2.compress),
    "lzma": (Compression.LZMA, xz_alone),
    "lz4 legacy": (Compression.LZ4, lz4_tool("-l")),
    "lz4 frame": (Compression.LZ4, lz4_tool()),
    "lz4 linked blocks": (Compression.LZ4, lz4_tool("-BD", "-B4", "-9")),
}


@pytest.mark.parametrize("name", PACKERS)
def test_every_compression_unpacks_with_bytes_behind_it(name: str) -> None:
    compression, pack = PACKERS[name]
    # More than one step of every decompressor, and not the same over and over.
    data = b"".join(struct.pack("<IQ", n, n * n) for n in range(50_000))
    packed = pack(data)
    assert compression_of(packed) is compression
    assert unpack(Blob.of(packed + struct.pack("<I", len(data))), compression, 1 << 30) == data
    assert unpack(Blob.of(packed), compression, 1000) == data[:1000]


def stored(data: bytes) -> bytes:
    """A block of an LZ4 frame that is not compressed."""
    return struct.pack("<I", len(data) | 1 << 31) + data


def block(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


LINKED = lz4.FRAME + b"\x40\x40\0"
INDEPENDENT = lz4.FRAME + b"\x60\x40\0"
LITERALS = b"\x50world"
END = bytes(4)


@pytest.mark.parametrize(
    ("data", "made"),
    [
        (INDEPENDENT + block(LITERALS) + stored(b"!") + END, b"world!"),
        # A match of 5 bytes, 6 back, in what the block before wrote.
        (LINKED + stored(b"hello ") + block(b"\x01\6\0" + LITERALS) + END, b"hello helloworld"),
        (LINKED + block(LITERALS) + block(b"\x10-\6\0\0") + END, b"world-worl"),
        # A match reaches back over a block, and into what it writes itself.
        (LINKED + stored(b"ab") * 2 + block(b"\x02\2\0\0") + END, b"ababababab"),
        (LINKED + stored(bytes(range(256)) * 256) + block(b"\x00\xff\xff\0") + END, None),
    ],
)
def test_blocks_of_lz4(data: bytes, made: bytes | None) -> None:
    expected = bytes(range(256)) * 256 + b"\1\2\3\4" if made is None else made
    assert b"".join(lz4.blocks(io.BytesIO(data))) == expected


@pytest.mark.parametrize(
    "data",
    [
        block(b"\x01\6\0" + LITERALS) + END,  # back over the beginning
        block(b"\x70world") + END,  # more literals than there are
        block(b"\x10-\1") + END,  # half a distance
        block(b"\x1f-\1\0" + b"\xff" * 258 + b"\0\0") + END,  # more than a block holds
        block(LITERALS)[:-1],
        struct.pack("<I", (64 << 10) + 1 | 1 << 31),  # larger than a block of this frame
        b"\0\0",  # no end mark
    ],
)
def test_damaged_blocks_of_lz4(data: bytes) -> None:
    for frame in (INDEPENDENT, LINKED):
        with pytest.raises(ValueError):
            list(lz4.blocks(io.BytesIO(frame + data)))


@pytest.mark.parametrize("name", PACKERS)
def test_bombs_stay_in_their_shell(name: str) -> None:
    compression, pack = PACKERS[name]
    packed = pack(bytes(48 << 20))
    tracemalloc.start()
    try:
        assert len(unpack(Blob.of(packed), compression, 1 << 20)) == 1 << 20
        # zstd and LZ4 give up to 8 MiB at once, which is copied twice.
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", PACKERS)
def test_what_is_cut_short_is_damaged_or_shorter(name: str) -> None:
    compression, pack = PACKERS[name]
    packed = pack(bytes(range(256)) * 20)
    with suppress(Damaged):
        assert len(unpack(Blob.of(packed[: len(packed) // 2]), compression, 1 << 20)) < 256 * 20


KERNELS = (
    (arm64_image("6.1"), KernelKind.ARM64_IMAGE, Arch.AARCH64, "6.1"),
    (gzip.compress(arm64_image("6.2")), KernelKind.ARM64_IMAGE, Arch.AARCH64, "6.2"),
    (zstd.compress(arm64_image("6.3")), KernelKind.ARM64_IMAGE, Arch.AARCH64, "6.3"),
    (lzma.compress(arm64_image("6.4")), KernelKind.ARM64_IMAGE, Arch.AARCH64, "6.4"),
    (zimage(kernel32("6.5")), KernelKind.ZIMAGE, Arch.ARMV7L, "6.5"),
    (zimage(kernel32("6.6"), lzma.compress), KernelKind.ZIMAGE, Arch.ARMV7L, "6.6"),
    (zimage(kernel32("6.7", generation=6)), KernelKind.ZIMAGE, Arch.ARMV6, "6.7"),
    (zimage(kernel32("2.6.5", generation=5)), KernelKind.ZIMAGE, Arch.ARMV6, "2.6.5"),
    (uimage(kernel32("6.8")), KernelKind.UIMAGE, Arch.ARMV7L, "6.8"),
    (uimage(zimage(kernel32("6.9"))), KernelKind.UIMAGE, Arch.ARMV7L, "6.9"),
    (uimage(arm64_image("6.10"), 22), KernelKind.UIMAGE, Arch.AARCH64, "6.10"),
    (
        uimage(gzip.compress(arm64_image("6.11")), 22, packed=1),
        KernelKind.UIMAGE,
        Arch.AARCH64,
        "6.11",
    ),
    (uimage(b"mips", 5), KernelKind.UIMAGE, None, "6.12.0"),
    (zboot(AARCH64, arm64_image("6.12")), KernelKind.EFI_ZBOOT, Arch.AARCH64, "6.12"),
    (bzimage("6.13"), KernelKind.BZIMAGE, Arch.X86_64, "6.13"),
    (ELF64, KernelKind.ELF, Arch.AARCH64, ""),
    (pe(AARCH64, {".linux": arm64_image("6.14")}), KernelKind.UKI, Arch.AARCH64, "6.14"),
    (pe(ARM, {".linux": zimage(kernel32("6.15"))}), KernelKind.UKI, Arch.ARMV7L, "6.15"),
)


@pytest.mark.parametrize(("data", "kind", "arch", "version"), KERNELS)
def test_kernels(data: bytes, kind: KernelKind, arch: Arch | None, version: str) -> None:
    found = artefacts.identify(Blob.of(data), deep=True)
    assert found is not None
    assert (found.kind, found.arch, found.version, found.fault) == (kind, arch, version, "")


@pytest.mark.parametrize("lpae", [True, False, None])
def test_lpae_by_the_names_of_memory_faults(lpae: bool | None) -> None:
    found = artefacts.identify(Blob.of(zimage(kernel32(lpae=lpae))), deep=True)
    assert found is not None
    assert found.lpae is lpae


def test_a_kernel_that_carries_its_configuration() -> None:
    config = b"CONFIG_CPU_V7=y\nCONFIG_ARM_LPAE=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\n"
    inner = kernel32(lpae=None, generation=6) + b"IKCFG_ST" + gzip.compress(config) + b"IKCFG_ED"
    found = artefacts.identify(Blob.of(zimage(inner)), deep=True)
    assert found is not None
    assert (found.arch, found.lpae, found.virtio) == (Arch.ARMV7L, True, True)


FAULTS = (
    (arm64_image(big_endian=True), "big-endian"),
    (zimage(big_endian=True), "big-endian"),
    (zimage()[:600], "smaller than its header says"),
    (zimage(pack=lambda _: b"\xfd7zXZ\x00" + bytes(999)), "does not unpack"),
    (uimage(b"x" * 99)[:-1], "smaller than its header says"),
    (uimage(b"x", crc=0), "checksum"),
    (uimage(b"x", kind=4), "no Linux kernel"),
    (zboot(AARCH64, b"", "lzo"), "compressed with 'lzo'"),
    (zboot(AARCH64, b"", size=1 << 31), "truncated"),
    (zboot(AARCH64, b"", size=8), "does not unpack"),
    (pe(AARCH64, {".linux": arm64_image()})[:1100], "truncated"),
    (pe(ARM, {".linux": arm64_image()}), "for armv7l, the kernel in it for aarch64"),
)


@pytest.mark.parametrize(("data", "said"), FAULTS)
def test_kernels_that_nothing_starts(data: bytes, said: str) -> None:
    found = artefacts.identify(Blob.of(data), deep=True)
    assert found is not None
    assert said in found.fault
    assert found.fault.endswith(".")


MACHINES = (
    (AARCH64, Arch.AARCH64),
    (ARM, Arch.ARMV7L),
    (0x1C0, Arch.ARMV7L),
    (X86_64, Arch.X86_64),
    (I386, Arch.I686),
    (RISCV, Arch.RISCV64),
    (0x200, None),
)


@pytest.mark.parametrize(("machine", "arch"), MACHINES)
def test_efi_programs(machine: int, arch: Arch | None) -> None:
    program = artefacts.efi_program(pe(machine, {".text": b"x"}))
    assert program is not None
    assert program.arch is arch
    assert program.sections == {".text": (1024, 1)}


PROGRAMS = (
    (ELF64, Arch.AARCH64),
    (ELF7, Arch.ARMV7L),
    (ELF6, Arch.ARMV6),
    (elf(40, 32, flags=0x5000400, cpu=6), Arch.ARMV6),  # Raspbian: hard float on ARMv6
    (elf(40, 32, flags=0x5000400, cpu=14), Arch.ARMV7L),
    (elf(40, 32, flags=0x5000400), Arch.ARMV7L),
    (elf(40, 32, flags=0x5000200), Arch.ARMV6),
    (elf(40, 32, big=True), None),
    (elf(183, big=True), None),
    (elf(62), Arch.X86_64),
    (elf(3, 32), Arch.I686),
    (elf(243), Arch.RISCV64),
    (elf(21), Arch.PPC64LE),
    (elf(21, big=True), None),
    (elf(22, big=True), Arch.S390X),
    (elf(8, 32), Arch.MIPSEL),
    (b"#!/bin/sh\n" + bytes(99), None),
    (ELF64[:20], None),
    (b"", None),
)


@pytest.mark.parametrize(("data", "arch"), PROGRAMS)
def test_programs(data: bytes, arch: Arch | None) -> None:
    assert artefacts.elf_arch(Blob.of(data)) is arch


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstd.compress, xz_alone])
def test_a_zimage_unpacked_for_qemu(pack: Callable[[bytes], bytes]) -> None:
    made = artefacts.uncompressed_uimage(zimage(pack=pack))
    magic, crc, _, size, load, entry, data_crc, os, arch, kind, packed, name = struct.unpack(
        ">7I4B32s", made[:64]
    )
    assert (magic, size, os, arch, kind, packed) == (0x27051956, len(kernel32()), 5, 2, 2, 0)
    assert load == entry == 0x40008000
    assert zlib.crc32(made[:4] + bytes(4) + made[8:64]) == crc
    assert zlib.crc32(made[64:]) == data_crc
    assert name.rstrip(b"\0") == b"Linux-6.12.0-armmp-lpae"
    assert made[64:] == kernel32()


IMAGE, UIMAGE32 = arm64_image(), artefacts.uncompressed_uimage(zimage())
TO_START = (
    (IMAGE, IMAGE),
    (gzip.compress(IMAGE), IMAGE),
    (zstd.compress(IMAGE), IMAGE),
    (zboot(AARCH64, IMAGE), IMAGE),
    (pe(AARCH64, {".linux": IMAGE}), IMAGE),
    (pe(AARCH64, {".linux": zboot(AARCH64, IMAGE)}), IMAGE),
    (uimage(IMAGE, 22), IMAGE),
    (uimage(gzip.compress(IMAGE), 22, packed=1), IMAGE),
    (zimage(), UIMAGE32),
    (uimage(zimage()), UIMAGE32),
    (pe(ARM, {".linux": zimage()}), UIMAGE32),
    (uimage(kernel32()), uimage(kernel32())),
)


@pytest.mark.parametrize(("data", "made"), TO_START)
def test_kernels_in_the_form_that_qemu_starts(data: bytes, made: bytes) -> None:
    assert artefacts.for_qemu(Blob.of(data)) == made


@pytest.mark.parametrize(
    "data",
    [b"", bzimage(), ELF64, zimage(big_endian=True), pe(AARCH64), pe(AARCH64, {".linux": b"x"})],
)
def test_nothing_is_made_of_other_kernels(data: bytes) -> None:
    with pytest.raises(BadImage):
        artefacts.for_qemu(Blob.of(data))


def test_the_initial_ram_disk_in_a_unified_kernel_image() -> None:
    data = pe(AARCH64, {".linux": IMAGE, ".initrd": b"070701"})
    assert artefacts.initrd_of(Blob.of(data)) == b"070701"
    assert artefacts.initrd_of(Blob.of(IMAGE)) is None


@pytest.mark.parametrize(
    ("table", "offset"),
    [
        (struct.pack("<7I", 6, 0x5A534C4B, 9, 9, 0x208000, 9, 0), 0x208000),
        (struct.pack("<7I", 6, 0x5A534C4B, 9, 9, 0xF0000000, 9, 0), 0x8000),
        (struct.pack("<7I", 6, 0x5A534C4C, 9, 9, 0x208000, 9, 0), 0x8000),
        (b"", 0x8000),
    ],
)
def test_where_the_kernel_in_a_zimage_runs(table: bytes, offset: int) -> None:
    data = bytearray(zimage())
    struct.pack_into("<II", data, 0x34, 0x45454545, len(data))
    assert artefacts.text_offset(bytes(data) + table) == offset


@pytest.mark.parametrize("data", [b"", b"\0" * 99, arm64_image(), zimage(big_endian=True)])
def test_what_is_no_zimage_is_not_unpacked(data: bytes) -> None:
    with pytest.raises(BadImage):
        artefacts.unpack_zimage(data)


def test_a_zimage_that_is_a_bomb_ends() -> None:
    with pytest.raises(BadImage):
        artefacts.unpack_zimage(zimage(bytes(140 << 20), zstd.compress))


SEEDS = [case[0][:8192] for case in (*KERNELS, *FAULTS, *PROGRAMS)]


@quick
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255))),
    st.integers(0, 2000),
)
def test_damaged_bytes_end_in_an_answer(
    seed: bytes, flips: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(seed)
    for at, value in flips:
        if at < len(data):
            data[at] = value
    for whole in (bytes(data), bytes(data[:cut])):
        found = artefacts.identify(Blob.of(whole), deep=True)
        assert found is None or isinstance(found.kind, KernelKind)
        artefacts.elf_arch(Blob.of(whole))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_header_cut_short_at_every_byte(seed: bytes) -> None:
    for end in range(0, 160):
        artefacts.identify(Blob.of(seed[:end]))
        artefacts.efi_program(seed[:end])


@quick
@given(st.binary(max_size=200))
def test_arm_attributes_are_read_to_their_end(data: bytes) -> None:
    for section in (data, b"A\0\0\0\0aeabi\0\1\0\0\0\0" + data):
        found = artefacts.cpu_architecture(section)
        assert found is None or found >= 0


@quick
@given(st.sampled_from([lz4.LEGACY, lz4.FRAME + b"\x60\x40\0"]), st.binary(max_size=300))
def test_lz4_of_any_bytes(magic: bytes, data: bytes) -> None:
    with suppress(Damaged):
        assert len(unpack(Blob.of(magic + data), Compression.LZ4, 1 << 16)) <= 1 << 16
