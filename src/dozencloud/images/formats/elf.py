"""The few facts that we need from an ELF file, read without any tool.

Field offsets are those of the System V ABI, chapter 4 (object files) and 5 (dynamic linking).
`Elf` reads little-endian files only: every Debian ARM architecture is little-endian. `Header` reads
any, as it is what tells a foreign file from ours.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

PT_DYNAMIC = 2
PT_INTERP = 3
PT_LOAD = 1
DT_NEEDED = 1
DT_STRTAB = 5


class NotElf(ValueError):
    """The bytes are not a little-endian ELF file."""


@dataclass(frozen=True)
class Layout:
    """Where the fields are in a file of one word size."""

    header: struct.Struct
    program: struct.Struct
    section: struct.Struct
    dynamic: struct.Struct


# e_phoff e_shoff | e_phentsize e_phnum e_shentsize e_shnum e_shstrndx
LAYOUT32 = Layout(
    header=struct.Struct("<28xII6xHHHHH"),
    program=struct.Struct("<IIIIIIII"),
    section=struct.Struct("<IIIIIIIIII"),
    dynamic=struct.Struct("<II"),
)
LAYOUT64 = Layout(
    header=struct.Struct("<32xQQ6xHHHHH"),
    program=struct.Struct("<IIQQQQQQ"),
    section=struct.Struct("<IIQQQQIIQQ"),
    dynamic=struct.Struct("<QQ"),
)


@dataclass(frozen=True)
class Header:
    """What the first 52 (32-bit) or 64 bytes tell. bits: 32 or 64. sections: where their headers
    are; section_size, section_count: of those headers."""

    bits: int
    big_endian: bool
    machine: int
    flags: int
    sections: int
    section_size: int
    section_count: int

    @classmethod
    def of(cls, head: bytes) -> Header:
        """NotElf if it is none."""
        if (
            head[:4] != b"\x7fELF"
            or len(head) < 64
            or head[4] not in (1, 2)
            or head[5] not in (1, 2)
        ):
            raise NotElf("not an ELF file")
        order = "<" if head[5] == 1 else ">"
        (machine,) = struct.unpack_from(f"{order}H", head, 18)
        offsets = "32xII6xHH" if head[4] == 1 else "40xQI6xHH"
        at, flags, size, count = struct.unpack_from(order + offsets, head, 0)
        return cls(head[4] * 32, head[5] == 2, machine, flags, at, size, count)


@dataclass(frozen=True)
class Segment:
    kind: int
    offset: int
    address: int
    size: int


class Elf:
    """One ELF file in memory."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF" or len(data) < 64 or data[4] not in (1, 2) or data[5] != 1:
            raise NotElf("not a little-endian ELF file")
        self._data = data
        self._wide = data[4] == 2
        self._layout = LAYOUT64 if self._wide else LAYOUT32
        phoff, shoff, phentsize, phnum, shentsize, shnum, shstrndx = (
            self._layout.header.unpack_from(data, 0)
        )
        self._segments = [self._segment(phoff + i * phentsize) for i in range(phnum)]
        self._section_headers = [
            self._layout.section.unpack_from(data, shoff + i * shentsize) for i in range(shnum)
        ]
        self._names_index = shstrndx

    def _segment(self, at: int) -> Segment:
        f = self._layout.program.unpack_from(self._data, at)
        if self._wide:
            return Segment(kind=f[0], offset=f[2], address=f[3], size=f[5])
        return Segment(kind=f[0], offset=f[1], address=f[2], size=f[4])

    def _string(self, at: int) -> str:
        return self._data[at : self._data.index(b"\0", at)].decode()

    @property
    def interpreter(self) -> str | None:
        """The dynamic loader's path, or None for a static program or a library."""
        for segment in self._segments:
            if segment.kind == PT_INTERP:
                return self._string(segment.offset)
        return None

    @property
    def needed(self) -> tuple[str, ...]:
        """File names of the libraries that the loader will look for."""
        entries: list[tuple[int, int]] = []
        for segment in self._segments:
            if segment.kind == PT_DYNAMIC:
                raw = self._data[segment.offset : segment.offset + segment.size]
                whole = len(raw) - len(raw) % self._layout.dynamic.size
                entries = list(self._layout.dynamic.iter_unpack(raw[:whole]))
        strings = next((value for tag, value in entries if tag == DT_STRTAB), None)
        if strings is None:
            return ()
        table = self._offset_of(strings)
        return tuple(self._string(table + value) for tag, value in entries if tag == DT_NEEDED)

    def _offset_of(self, address: int) -> int:
        for segment in self._segments:
            inside = segment.address <= address < segment.address + segment.size
            if segment.kind == PT_LOAD and inside:
                return address - segment.address + segment.offset
        raise NotElf(f"address {address:#x} is in no loaded segment")

    def section(self, name: str) -> bytes | None:
        """The content of a section, or None if there is none of that name."""
        if not self._section_headers:
            return None
        names = self._section_headers[self._names_index][4]
        for header in self._section_headers:
            if self._string(names + header[0]) == name:
                return self._data[header[4] : header[4] + header[5]]
        return None
