"""Where a guest's processor is, from what QEMU's monitor tells about its registers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

RAM = 0x40000000
"""Where RAM of QEMU's `virt` machine begins (hw/arm/virt.c); below are flash and devices."""
VECTORS_64 = range(0, 0x800, 0x80)
"""AArch64's exception vectors with VBAR_EL1 as at reset (Arm ARM, D1.10.2)."""
KERNEL_64 = 0xFFFF << 48
"""Linux on arm64 maps itself above this (Documentation/arch/arm64/memory.rst)."""
KERNEL_32 = 0x80000000
"""The lowest PAGE_OFFSET that distributions choose for ARM; it is usually 0xc0000000."""
FAULTED_32 = ("und", "abt")


class Where(StrEnum):
    """What the processor does, judged by where it is."""

    ASTRAY = "astray"
    """Caught in exception vectors that nobody set up, or where no program can be."""
    STANDSTILL = "standstill"
    """One and the same instruction in memory: early code that gave up."""
    KERNEL = "kernel"
    """A Linux kernel that has set up its own addresses."""
    PROGRAM = "program"
    """A user program of a running system."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Processor:
    """One look at a virtual CPU. mode: as QEMU prints it (EL1h, svc32)."""

    pc: int
    mode: str
    bits: int

    def __str__(self) -> str:
        return f"PC={self.pc:#x} {self.mode}"


def parse(text: str) -> Processor | None:
    """The first CPU of `info registers`; None if it is not an ARM one.

    A 64-bit CPU in 32-bit state is printed as a 32-bit one (target/arm/cpu.c).
    """
    if (pc := re.search(r"\bPC=([0-9a-f]{16})", text)) and (
        mode := re.search(r"^PSTATE=[0-9a-f]+ \S+ (?:[NS]{1,2} )?(EL\d\w)", text, re.MULTILINE)
    ):
        return Processor(int(pc[1], 16), mode[1], 64)
    if (pc := re.search(r"\bR15=([0-9a-f]{8})", text)) and (
        mode := re.search(r"^PSR=[0-9a-f]+ .* ([a-z]{3}32)\b", text, re.MULTILINE)
    ):
        return Processor(int(pc[1], 16), mode[1], 32)
    return None


def where(looks: Sequence[Processor], *, firmware: bool) -> Where:
    """What several looks at the same CPU say together.

    firmware: there is some, so that code below RAM may be its own.
    """
    if not looks:
        return Where.UNKNOWN
    if all(_astray(look, firmware) for look in looks):
        return Where.ASTRAY
    if any(_kernel(look) for look in looks):
        return Where.KERNEL
    if any(look.mode in ("EL0t", "usr32") for look in looks):
        return Where.PROGRAM
    if len(looks) > 1 and len({look.pc for look in looks}) == 1 and looks[0].pc >= RAM:
        return Where.STANDSTILL
    return Where.UNKNOWN


def _astray(look: Processor, firmware: bool) -> bool:
    if look.pc >= RAM:
        return False
    if look.bits == 64:
        return look.pc in VECTORS_64 or not firmware
    return look.mode[:3] in FAULTED_32 or not firmware


def _kernel(look: Processor) -> bool:
    return look.pc >= (KERNEL_64 if look.bits == 64 else KERNEL_32)
