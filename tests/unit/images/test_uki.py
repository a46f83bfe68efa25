"""Unified kernel images: sections are added where a loader finds them."""

from __future__ import annotations

import struct

import pytest

from dozencloud.images.formats import uki

COFF = 0x80
OPTIONAL = 0x70
TABLE = COFF + 24 + OPTIONAL


def stub(*, room: int) -> bytes:
    """An EFI program with one section of 0x321 bytes, and room for more headers."""
    size = TABLE + (1 + room) * uki.SECTION.size
    image = bytearray(size + 0x400)
    image[:2] = b"MZ"
    struct.pack_into("<I", image, 0x3C, COFF)
    struct.pack_into("<4sHHIIIHH", image, COFF, b"PE\0\0", 0xAA64, 1, 0, 0, 0, OPTIONAL, 0x206)
    struct.pack_into("<II", image, COFF + 24 + 32, 0x1000, 0x200)
    uki.SECTION.pack_into(image, TABLE, b".text", 0x321, 0x1000, 0x400, size, 0, 0, 0, 0, 0)
    return bytes(image)


def test_sections_can_be_read_back() -> None:
    parts = {".cmdline": b"console=ttyAMA0", ".linux": bytes(range(256)) * 9, ".initrd": b"x"}
    image = uki.build(stub(room=3), parts)
    assert struct.unpack_from("<H", image, COFF + 6) == (4,)
    addresses = [0x1321]
    for number, (name, data) in enumerate(parts.items(), start=1):
        header = uki.SECTION.unpack_from(image, TABLE + number * uki.SECTION.size)
        label, size, address, padded, offset = header[:5]
        assert label.rstrip(b"\0").decode() == name
        assert image[offset : offset + size] == data
        assert (offset % 0x200, padded % 0x200, address % 0x1000) == (0, 0, 0)
        assert address >= addresses[-1]
        addresses.append(address + size)
    (image_size,) = struct.unpack_from("<I", image, COFF + 24 + 56)
    assert addresses[-1] <= image_size < addresses[-1] + 0x1000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too short"),
        (bytes(512), "no PE header"),
        (stub(room=1), "no room for 2 more"),
    ],
)
def test_what_is_no_stub(data: bytes, reason: str) -> None:
    with pytest.raises(uki.BadStub, match=reason):
        uki.build(data, {".cmdline": b"a", ".linux": b"b"})
