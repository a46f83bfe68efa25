"""Files that are no disk as they are: what is told, with the command that mends it."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
from pathlib import Path

import pytest

from dozencloud.images.importing import inspect_or_refuse, unusable
from dozencloud.images.inspection import formats
from dozencloud.images.inspection.assemble import inspect
from dozencloud.images.inspection.formats import open_image
from dozencloud.images.inspection.model import Format
from dozencloud.images.inspection.streams import Scratch
from dozencloud.images.inspection.tree import BadImage

MIB = 1 << 20


def at(offset: int, magic: bytes, size: int = MIB) -> bytes:
    return bytes(offset) + magic + bytes(size - offset - len(magic))


def qcow2(features: int = 0, *, size: int = MIB) -> bytes:
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 16, MIB, 0, 1, 65536, 0, 0, 0, 0)
    head += struct.pack(">QQQII", features, 0, 0, 4, 112)
    return head.ljust(size, b"\0")


def older(version: int, **fields: int) -> bytes:
    """Some other header of qcow."""
    data = bytearray(qcow2())
    struct.pack_into(">I", data, 4, version)
    for name, value in fields.items():
        form, at = {"backing": (">Q", 8), "encrypted": (">I", 32)}[name]
        struct.pack_into(form, data, at, value)
    return bytes(data)


CONVERTED = (
    ("VHD", at(0, b"conectix"), "a VHD image", "qemu-img convert -f vpc -O qcow2"),
    ("VHD, fixed", at(MIB - 512, b"conectix"), "a VHD image", "qemu-img convert -f vpc -O qcow2"),
    ("VDI", at(0x40, b"\x7f\x10\xda\xbe"), "a VDI image", "qemu-img convert -f vdi -O qcow2"),
    ("QED", at(0, b"QED\0"), "a QED image", "qemu-img convert -f qed -O qcow2"),
    ("Parallels", at(0, b"WithouFreSpacExt"), "a Parallels", "qemu-img convert -f parallels"),
    ("Apple", at(MIB - 512, b"koly"), "an Apple disk", "qemu-img convert -f dmg -O qcow2"),
    ("extended L2", qcow2(16), "extended L2", "qemu-img convert -f qcow2 -O qcow2"),
    ("zip", at(0, b"PK\3\4"), "a zip archive", "unzip"),
    ("7z", at(0, b"7z\xbc\xaf\x27\x1c"), "a 7z archive", "7z x"),
    ("RAR", at(0, b"Rar!\x1a\7"), "a RAR archive", "unrar x"),
    ("lz4", at(0, b"\x04\x22\x4d\x18"), "packed with lz4", "unlz4"),
    ("qcow", older(1), "a qcow image of version 1", "qemu-img convert -f qcow -O qcow2"),
    ("backing file", older(3, backing=512), "a backing file", "qemu-img convert -f qcow2"),
    ("data file", qcow2(4), "in another file", "qemu-img convert -f qcow2 -O qcow2"),
    ("encrypted", older(3, encrypted=2), "is encrypted", "encrypt.key-secret=key"),
    ("part of a VMDK", at(0, b"KDMV\1\0\0\0"), "one part of a VMDK", "NAMES.qcow2"),
    ("FIT", at(0, b"\xd0\x0d\xfe\xed"), "a FIT image", "dumpimage"),
    ("xz in gzip", gzip.compress(lzma.compress(b"x")), "packed twice: with gzip.* xz", "gunzip"),
    ("lzma in gzip", gzip.compress(b"\x5d\0\0x"), "packed twice: with gzip.* lzma", "gunzip"),
    ("Android", at(0, b"\x3a\xff\x26\xed"), "an Android sparse image", "simg2img"),
)


@pytest.mark.parametrize(
    ("data", "what", "command"), [case[1:] for case in CONVERTED], ids=[c[0] for c in CONVERTED]
)
def test_what_must_be_converted_or_unpacked(data: bytes, what: str, command: str) -> None:
    with pytest.raises(BadImage, match=what) as caught:
        open_image(io.BytesIO(data), len(data))
    told = unusable(caught.value, "it's mine.img", "it's mine.img")
    assert command in told.mend
    assert "'it'\"'\"'s mine.img'" in told.mend or "NAMES" in told.mend
    assert "FILE" not in told.mend


def test_the_same_inside_of_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(at(0x40, b"\x7f\x10\xda\xbe"))
    with pytest.raises(BadImage, match="a VDI image") as caught:
        open_image(io.BytesIO(packed), len(packed), Scratch(folder=tmp_path))
    assert caught.value.mend == "Unpack it: gunzip FILE"


@pytest.mark.parametrize(
    ("magic", "command"),
    [
        (b"\x5d\0\0\1", "unlzma FILE"),
        (b"\x02\x21\x4c\x18", "unlz4 FILE"),
        (b"\x89LZO\0\r\n", "lzop -d FILE"),
    ],
)
def test_packed_as_only_an_initrd_may_be(magic: bytes, command: str) -> None:
    with pytest.raises(BadImage, match="packed with") as caught:
        inspect(open_image(io.BytesIO(magic + bytes(999)), 999))
    assert caught.value.mend == f"Unpack it: {command}"


def test_a_tar_without_a_magic() -> None:
    data = bytearray(tarfile.TarInfo("README").tobuf() + bytes(1024))
    data[257:265] = bytes(8)
    data[148:156] = b"%06o\0 " % tarfile.calc_chksums(data[:512])[0]  # type: ignore[attr-defined]
    assert open_image(io.BytesIO(data), len(data)).format is Format.TAR


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"\n  <HTML><head>", "a web page"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC ""><html/>', "a web page"),
        (b'<?xml version="1.0"?>\n<Envelope/>', "a description in XML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"LUKS\xba\xbe" + bytes(600), "a LUKS-encrypted disk"),
        (b"PK\5\6" + bytes(18), "a zip archive with nothing in it"),
        (at(0x8001, b"CD001"), "an ISO 9660 image"),
    ],
)
def test_what_is_another_thing(data: bytes, said: str) -> None:
    with pytest.raises(BadImage, match=said):
        open_image(io.BytesIO(data), len(data))


@pytest.mark.parametrize("size", [8, 20, 72, 104, 111, 511])
@pytest.mark.parametrize("magic", [b"QFI\xfb\0\0\0\3", b"KDMV\1\0\0\0", b"vhdxfile"])
def test_cut_in_its_header(magic: bytes, size: int) -> None:
    with pytest.raises(BadImage, match="cut off"):
        open_image(io.BytesIO(magic.ljust(size, b"\0")), size)


def vmdk(*, directory: int, description: int = 1) -> bytes:
    head = struct.pack("<4sIIQQQQIQQ", b"KDMV", 3, 3, 2048, 128, description, 20, 512, 0, directory)
    return head.ljust(64 << 10, b"\0")


@pytest.mark.parametrize(
    "data",
    [
        vmdk(directory=21)[:3000],
        vmdk(directory=21, description=1 << 60),
        vmdk(directory=(1 << 64) - 1),
        at(510, b"\x55\xaa", 3000)[:450] + b"\xee" + at(59, b"\x55\xaa", 2549),
    ],
    ids=["description", "description far away", "copy of the header", "GPT"],
)
def test_cut_in_its_tables(data: bytes) -> None:
    with pytest.raises(BadImage, match="cut off"):
        inspect(open_image(io.BytesIO(data), len(data)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes(512), "The disk is empty"),
        (bytes(3 * MIB), "The disk is empty"),
        (gzip.compress(bytes(3 * MIB)), "The disk is empty"),
        (bytes(511), "The file has 511 bytes: it is cut off"),
        (b"404: Not Found\n", "The file has 15 bytes: it is cut off"),
        (at(1024, b"\xe2\xe1\xf5\xe0"), "All that is in it is erofs, which is not read here"),
        (at(1024, b"\x10\x20\xf5\xf2"), "All that is in it is f2fs, which is not read here"),
    ],
)
def test_what_holds_nothing_to_start(data: bytes, said: str) -> None:
    found = inspect(open_image(io.BytesIO(data), len(data)))
    assert found.reason.startswith(said)


def test_the_command_comes_out_of_the_cage(tmp_path: Path) -> None:
    path = tmp_path / "a disk.vdi"
    path.write_bytes(at(0x40, b"\x7f\x10\xda\xbe"))
    with pytest.raises(Exception, match="a VDI image") as caught:
        inspect_or_refuse(path, path.name, path.name)
    assert caught.value.mend == (  # type: ignore[attr-defined]  # a Problem
        "Convert it: qemu-img convert -f vdi -O qcow2 'a disk.vdi' 'a disk.vdi'.qcow2"
    )


def test_every_refusal_says_what_to_do() -> None:
    assert all(
        mend.endswith((".", "FILE", ".qcow2", ".raw", "pull")) for *_, mend in formats._REFUSED
    )
