"""Unified kernel images: systemd's EFI stub with kernel, initrd and command line as PE sections.

Written without objcopy, which knows only the formats of the machine that it runs on. Offsets are
those of Microsoft's "PE Format"; the sections are those of the UAPI group's specification 5.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

SECTION = struct.Struct("<8sIIIIIIHHI")
READ_ONLY_DATA = 0x4000_0040  # IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ


class BadStub(ValueError):
    """The bytes are not an EFI program with room for more sections."""


@dataclass(frozen=True)
class _Headers:
    """Where the fields are, and what they say. All offsets are of the file."""

    count_at: int
    sections: int
    image_size_at: int
    table: int
    section_alignment: int
    file_alignment: int


def build(stub: bytes, sections: Mapping[str, bytes]) -> bytes:
    """The stub with sections added, in their order; names such as `.linux`."""
    headers = _headers(stub)
    old = [
        SECTION.unpack_from(stub, headers.table + i * SECTION.size) for i in range(headers.sections)
    ]
    first_data = min(offset for _, _, _, size, offset, *_ in old if size)
    end_of_table = headers.table + (headers.sections + len(sections)) * SECTION.size
    if end_of_table > first_data:
        raise BadStub(
            f"the headers have no room for {len(sections)} more sections:"
            f" {end_of_table} bytes of {first_data}"
        )
    image = bytearray(stub)
    image += bytes(-len(image) % headers.file_alignment)
    address = max(address + size for _, size, address, *_ in old)
    at = headers.table + headers.sections * SECTION.size
    for name, data in sections.items():
        address += -address % headers.section_alignment
        padded = len(data) + -len(data) % headers.file_alignment
        SECTION.pack_into(
            *(image, at, name.encode(), len(data), address, padded, len(image)),
            *(0, 0, 0, 0, READ_ONLY_DATA),
        )
        image += data + bytes(padded - len(data))
        address += len(data)
        at += SECTION.size
    address += -address % headers.section_alignment
    struct.pack_into("<H", image, headers.count_at, headers.sections + len(sections))
    struct.pack_into("<I", image, headers.image_size_at, address)
    return bytes(image)


def _headers(stub: bytes) -> _Headers:
    try:
        (coff,) = struct.unpack_from("<I", stub, 0x3C)
        if stub[:2] != b"MZ" or stub[coff : coff + 4] != b"PE\0\0":
            raise BadStub("no PE header")
        (sections,) = struct.unpack_from("<H", stub, coff + 6)
        (optional_size,) = struct.unpack_from("<H", stub, coff + 20)
        optional = coff + 24
        section_alignment, file_alignment = struct.unpack_from("<II", stub, optional + 32)
    except struct.error:
        raise BadStub("the file is too short") from None
    return _Headers(
        count_at=coff + 6,
        sections=sections,
        image_size_at=optional + 56,
        table=optional + optional_size,
        section_alignment=section_alignment,
        file_alignment=file_alignment,
    )
