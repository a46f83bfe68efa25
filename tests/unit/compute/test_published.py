"""What Placement and Nova's scheduler are told about a host."""

from __future__ import annotations

import json

import os_traits
import pytest

from dozencloud.compute.abilities import Abilities, Accelerator, CpuSet
from dozencloud.compute.published import cpu_info, instances, inventory, traits
from dozencloud.images.inspection.model import Arch
from dozencloud.images.properties import TRAITS

KVM, QEMU = Accelerator.KVM, Accelerator.QEMU
LITTLE, BIG = CpuSet("Cortex-A53", (0, 1, 2, 3), True), CpuSet("Cortex-A72", (4, 5), True)

PC = Abilities("x86_64", {"x86_64": QEMU, "aarch64": QEMU, "armv7l": QEMU}, (LITTLE,))
BOARD = Abilities("aarch64", {"aarch64": KVM, "armv7l": KVM, "riscv64": QEMU}, (LITTLE, BIG))
WIDE = Abilities("aarch64", {"aarch64": KVM, "armv7l": QEMU}, (BIG,))
SLOW = Abilities("aarch64", {"aarch64": QEMU, "armv7l": QEMU}, (LITTLE, BIG))
BARE = Abilities("x86_64", {"x86_64": KVM}, (LITTLE,))


@pytest.mark.parametrize(
    ("found", "published"),
    [
        (
            PC,
            {
                "COMPUTE_ARCH_X86_64",
                "COMPUTE_ARCH_AARCH64",
                "CUSTOM_COMPUTE_ARCH_ARMV7L",
                "CUSTOM_ARM_EMULATED",
            },
        ),
        (
            BOARD,
            {
                "COMPUTE_ARCH_AARCH64",
                "COMPUTE_ARCH_RISCV64",
                "CUSTOM_COMPUTE_ARCH_ARMV7L",
                "HW_ARCH_AARCH64",
                "HW_ARCH_ARMV7",
                "CUSTOM_ARM_KVM_AARCH32",
            },
        ),
        # A processor without 32-bit kernels: those are emulated.
        (WIDE, {"COMPUTE_ARCH_AARCH64", "CUSTOM_COMPUTE_ARCH_ARMV7L", "HW_ARCH_AARCH64"}),
        (SLOW, {"COMPUTE_ARCH_AARCH64", "CUSTOM_COMPUTE_ARCH_ARMV7L", "CUSTOM_ARM_EMULATED"}),
        (BARE, {"COMPUTE_ARCH_X86_64"}),
    ],
)
def test_traits(found: Abilities, published: set[str]) -> None:
    said = traits(found)
    assert {name for name, has in said.items() if has} == published


@pytest.mark.parametrize(
    ("found", "model"),
    [
        (PC, None),
        (WIDE, "Cortex-A72"),
        (BOARD, "Cortex-A53 (0-3) + Cortex-A72 (4-5)"),
        (SLOW, "Cortex-A53 + Cortex-A72"),
    ],
)
def test_the_model_that_decides_who_may_take_a_server(found: Abilities, model: str | None) -> None:
    said = json.loads(cpu_info(found, '{"arch": "aarch64", "model": null}'))
    assert said == {"arch": "aarch64", "model": model}


def test_what_stops_being_true_is_taken_back() -> None:
    assert set(traits(BARE)) == set(traits(BOARD))


def test_traits_exist_where_they_are_not_ours() -> None:
    standard = {name for name in traits(PC) if not name.startswith("CUSTOM_")}
    assert standard <= set(os_traits.get_traits())


def test_images_ask_for_traits_that_hosts_publish() -> None:
    assert set(TRAITS.values()) <= set(traits(PC))
    assert TRAITS[Arch.ARMV7L] in {name for name, has in traits(PC).items() if has}


CLAIMED = [
    (architecture, kind, "hvm")
    for architecture in ("aarch64", "armv7l")
    for kind in ("kvm", "qemu")
]


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (BOARD, CLAIMED),
        (WIDE, [each for each in CLAIMED if each != ("armv7l", "kvm", "hvm")]),
        (SLOW, [each for each in CLAIMED if each[1] == "qemu"]),
    ],
)
def test_supported_instances(found: Abilities, kept: list[tuple[str, str, str]]) -> None:
    assert instances(found, CLAIMED) == kept


@pytest.mark.parametrize(
    ("found", "vcpu", "pcpu", "most"),
    [
        (BOARD, range(6), range(6), (4, 4)),
        # The operator keeps CPUs for the host; a CPU is offline.
        (BOARD, range(2, 6), range(1), (2, 1)),
        (BOARD, range(4), range(4, 6), (4, 2)),
        # Emulated servers may spread, and here are all CPUs alike.
        (SLOW, range(6), range(0), (6, 6)),
        (WIDE, range(6), range(0), (6, 6)),
    ],
)
def test_largest_server(found: Abilities, vcpu: range, pcpu: range, most: tuple[int, int]) -> None:
    said = {
        "VCPU": {"total": 6, "max_unit": 6},
        "PCPU": {"total": 6, "max_unit": 6},
        "MEMORY_MB": {"total": 4096, "max_unit": 4096},
    }
    told = inventory(found, said, {"VCPU": vcpu, "PCPU": pcpu})
    assert (told["VCPU"]["max_unit"], told["PCPU"]["max_unit"]) == most
    assert told["VCPU"]["total"] == 6
    assert told["MEMORY_MB"] == said["MEMORY_MB"]
