"""Processors: kinds, clusters, quotas."""

from __future__ import annotations

import pytest

from dozencloud.facts.cpu import (
    arm_exit_elf,
    clusters_of,
    decode_midr,
    parse_cgroup,
    parse_cpuinfo,
    parse_interrupts_gic,
    parse_quota_v2,
    usable_cpus,
)

ARM_BLOCK = """\
processor\t: {number}
BogoMIPS\t: 48.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: {implementer:#x}
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part:#05x}
CPU revision\t: 3

"""
RASPBERRY_PI_TAIL = """\
Hardware\t: BCM2835
Revision\t: c03111
Serial\t\t: 10000000000000aa
Model\t\t: Raspberry Pi 4 Model B Rev 1.1
"""
# A 32-bit kernel gives a model name that names the architecture, not the CPU.
RASPBERRY_PI_32 = """\
processor\t: 0
model name\t: ARMv7 Processor rev 3 (v7l)
BogoMIPS\t: 108.00
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae
CPU implementer\t: 0x41
CPU architecture: 7
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
X86 = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
flags\t\t: fpu vme de pse

processor\t: 1
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
flags\t\t: fpu vme de pse

"""


def arm(*parts: tuple[int, int]) -> str:
    return "".join(
        ARM_BLOCK.format(number=number, implementer=implementer, part=part)
        for number, (implementer, part) in enumerate(parts)
    )


@pytest.mark.parametrize(
    ("text", "clusters"),
    [
        (arm(*[(0x41, 0xD08)] * 4) + RASPBERRY_PI_TAIL, [("Cortex-A72", (0, 1, 2, 3))]),
        (RASPBERRY_PI_32, [("Cortex-A72", (0,))]),
        (
            arm(*[(0x41, 0xD03)] * 4, *[(0x41, 0xD08)] * 2),  # RK3399
            [("Cortex-A53", (0, 1, 2, 3)), ("Cortex-A72", (4, 5))],
        ),
        (arm((0x41, 0xD0C), (0x41, 0xD0C)), [("Neoverse-N1", (0, 1))]),  # Ampere Altra
        (arm((0xC0, 0xAC3)), [("Ampere-1", (0,))]),
        (arm((0x00, 0x051)), [("ARM CPU 0x00/0x051", (0,))]),  # QEMU's "max"
        (X86, [("AMD EPYC", (0, 1))]),
        ("processor\t: 0\n", [("unknown CPU", (0,))]),
        ("", []),
    ],
)
def test_cpuinfo(text: str, clusters: list[tuple[str, tuple[int, ...]]]) -> None:
    assert [(each.model, each.cpus) for each in parse_cpuinfo(text)] == clusters


def test_midr() -> None:
    assert decode_midr(0x410FD083) == (0x41, 0xD08)
    rk3399 = dict.fromkeys(range(4), 0x410FD034) | dict.fromkeys((4, 5), 0x410FD082)
    assert [(each.model, each.cpus, each.part) for each in clusters_of(rk3399)] == [
        ("Cortex-A53", (0, 1, 2, 3), 0xD03),
        ("Cortex-A72", (4, 5), 0xD08),
    ]
    assert clusters_of({}) == ()


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("400000 100000", 4.0), ("", None)],
)
def test_quota(text: str, cpus: float | None) -> None:
    assert parse_quota_v2(text) == cpus


def test_usable_is_the_smallest_limit() -> None:
    assert usable_cpus(4, []) == 4
    assert usable_cpus(4, [None, 1.5, 3.0]) == 1.5
    assert usable_cpus(2, [8.0]) == 2


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("0::/user.slice/user-0.slice\n", ("/user.slice/user-0.slice", None)),
        ("4:memory:/a\n3:cpu,cpuacct:/docker/1\n0::/\n", ("/", "/docker/1")),
        ("2:cpuacct:/x\n3:cpuset:/y\n", (None, None)),
    ],
)
def test_cgroup(text: str, groups: tuple[str | None, str | None]) -> None:
    assert parse_cgroup(text) == groups


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("  9:          0          0     GICv3  25 Level     vgic\n", 3),
        ("  9:          0          0     GICv2  25 Level     vgic\n", 2),
        (" 18:       8271       9381     GIC-0  27 Level     arch_timer\n", 2),
        ("  1:          9   IO-APIC   1-edge      i8042\n", None),
    ],
)
def test_gic(text: str, version: int | None) -> None:
    assert parse_interrupts_gic(text) == version


def test_arm_program_is_a_static_32_bit_arm_elf() -> None:
    elf = arm_exit_elf()
    assert elf[:6] == b"\x7fELF\x01\x01"
    assert int.from_bytes(elf[16:18], "little") == 2  # ET_EXEC
    assert int.from_bytes(elf[18:20], "little") == 40  # EM_ARM
    assert len(elf) == int.from_bytes(elf[52 + 16 : 52 + 20], "little")  # p_filesz
