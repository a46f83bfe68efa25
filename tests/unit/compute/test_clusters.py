"""Servers under KVM stay on one kind of CPU. Lists of CPUs are those of real boards."""

from __future__ import annotations

from typing import Any

import pytest
from nova.virt.libvirt import config

from dozencloud.compute.abilities import Abilities, Accelerator, CpuSet
from dozencloud.compute.clusters import (
    Running,
    allowed_cpus,
    choose,
    confine,
    largest,
    matter,
    parse_running,
    settle,
)
from dozencloud.errors import Problem

RK3399 = (CpuSet("Cortex-A53", (0, 1, 2, 3), True), CpuSet("Cortex-A72", (4, 5), True))
RK3588 = (CpuSet("Cortex-A55", (0, 1, 2, 3), True), CpuSet("Cortex-A76", (4, 5, 6, 7), False))
S922X = (CpuSet("Cortex-A53", (0, 1), True), CpuSet("Cortex-A73", (2, 3, 4, 5), True))


def cpus(first: int, last: int) -> frozenset[int]:
    return frozenset(range(first, last + 1))


ALL = cpus(0, 7)


@pytest.mark.parametrize(
    ("clusters", "vcpus", "usable", "aarch32", "running", "chosen"),
    [
        (RK3399, 1, ALL, False, [], cpus(0, 3)),
        (RK3399, 2, ALL, False, [Running(1, cpus(0, 3))], cpus(4, 5)),
        # Load counts per CPU of the cluster.
        (RK3399, 2, ALL, False, [Running(2, cpus(0, 3)), Running(2, cpus(4, 5))], cpus(0, 3)),
        (RK3399, 4, ALL, False, [Running(8, cpus(0, 3))], cpus(0, 3)),
        # The operator keeps CPU 0 for the host.
        (RK3399, 3, cpus(1, 5), False, [], cpus(1, 3)),
        (RK3399, 1, cpus(4, 5), False, [], cpus(4, 5)),
        # An emulated server may be anywhere and weighs on both alike.
        (RK3588, 1, ALL, False, [Running(8, ALL), Running(1, cpus(0, 3))], cpus(4, 7)),
        # Only one kind runs 32-bit kernels.
        (RK3588, 1, ALL, True, [Running(16, cpus(0, 3))], cpus(0, 3)),
        (S922X, 4, ALL, True, [], cpus(2, 5)),
        # Not all CPUs of a kind are online.
        ((CpuSet("Cortex-A53", (0,), True), RK3399[1]), 2, ALL, False, [], cpus(4, 5)),
    ],
)
def test_choice(
    clusters: tuple[CpuSet, ...],
    vcpus: int,
    usable: frozenset[int],
    aarch32: bool,
    running: list[Running],
    chosen: frozenset[int],
) -> None:
    assert choose(clusters, [usable] * vcpus, aarch32=aarch32, running=running) == chosen


@pytest.mark.parametrize(
    ("clusters", "allowed", "aarch32", "said"),
    [
        (
            RK3399,
            [ALL] * 5,
            False,
            "The server needs 5 CPUs of one kind, but this node has 4 Cortex-A53, 2 Cortex-A72.",
        ),
        (
            RK3399,
            [cpus(1, 4)] * 4,
            False,
            "The server needs 4 CPUs of one kind, but this node has 3 Cortex-A53, 1 Cortex-A72.",
        ),
        # Pinned one by one, across the border.
        (
            RK3399,
            [cpus(3, 3), cpus(4, 4)],
            False,
            "The server needs 2 CPUs of one kind, but this node has 1 Cortex-A53, 1 Cortex-A72.",
        ),
        (
            RK3588[1:],
            [ALL],
            True,
            "The 32-bit server needs 1 CPU of one kind, but this node has "
            "4 Cortex-A76 (64-bit only).",
        ),
    ],
)
def test_refusal(
    clusters: tuple[CpuSet, ...], allowed: list[frozenset[int]], aarch32: bool, said: str
) -> None:
    with pytest.raises(Problem) as refused:
        choose(clusters, allowed, aarch32=aarch32, running=[])
    assert refused.value.what == said


@pytest.mark.parametrize(
    ("clusters", "usable", "most"),
    [
        (RK3399, ALL, 4),
        (RK3399, cpus(2, 5), 2),
        (RK3588, ALL, 4),
        (S922X, ALL, 4),
        (S922X, cpus(0, 1), 2),
        ((), ALL, 0),
    ],
)
def test_largest_server(clusters: tuple[CpuSet, ...], usable: frozenset[int], most: int) -> None:
    assert largest(clusters, usable) == most


def domain(vcpus: int, virt_type: str = "kvm", arch: str = "aarch64") -> Any:
    guest = config.LibvirtConfigGuest()
    guest.uuid, guest.name, guest.memory, guest.vcpus = "u", "n", 1024, vcpus
    guest.virt_type, guest.os_type, guest.os_arch = virt_type, "hvm", arch
    return guest


def pinned(*sets: set[int]) -> Any:
    guest = domain(len(sets))
    guest.cputune = config.LibvirtConfigGuestCPUTune()
    guest.cputune.emulatorpin = config.LibvirtConfigGuestCPUTuneEmulatorPin()
    guest.cputune.emulatorpin.cpuset = set().union(*sets)
    for number, each in enumerate(sets):
        pin = config.LibvirtConfigGuestCPUTuneVCPUPin()
        pin.id, pin.cpuset = number, set(each)
        guest.cputune.vcpupin.append(pin)
    return guest


def test_a_plain_domain_gets_a_cpuset() -> None:
    guest = domain(2)
    assert allowed_cpus(guest, ALL) == (ALL, ALL)
    confine(guest, cpus(4, 5))
    assert '<vcpu cpuset="4-5">2</vcpu>' in guest.to_xml()


def test_the_cpus_of_numa_cells_are_cut() -> None:
    guest = pinned({0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5})
    assert allowed_cpus(guest, ALL) == (cpus(0, 5), cpus(0, 5))
    confine(guest, cpus(4, 5))
    xml = guest.to_xml()
    assert xml.count('cpuset="4-5"') == 3
    assert "<vcpu>2</vcpu>" in xml


def test_dedicated_cpus_stay_and_decide() -> None:
    guest = pinned({5}, {4})
    chosen = choose(RK3399, allowed_cpus(guest, ALL), aarch32=False, running=[])
    confine(guest, chosen)
    assert [pin.cpuset for pin in guest.cputune.vcpupin] == [{5}, {4}]


@pytest.mark.parametrize(
    ("xml", "running"),
    [
        ("<domain><vcpu placement='static' cpuset='4-5'>2</vcpu></domain>", Running(2, cpus(4, 5))),
        ("<domain><vcpu placement='static'>1</vcpu></domain>", Running(1, ALL)),
        ("<domain><vcpu cpuset='0-3,^2'>3</vcpu></domain>", Running(3, frozenset({0, 1, 3}))),
    ],
)
def test_running_domains(xml: str, running: Running) -> None:
    assert parse_running(xml, ALL) == running


HARDWARE = {"aarch64": Accelerator.KVM, "armv7l": Accelerator.KVM}
EMULATION = {"aarch64": Accelerator.QEMU, "armv7l": Accelerator.QEMU}


@pytest.mark.parametrize(
    ("clusters", "runs", "whether"),
    [
        (RK3588, HARDWARE, True),
        (RK3588, EMULATION, False),
        (RK3588[:1], HARDWARE, False),
    ],
)
def test_whether_clusters_matter(
    clusters: tuple[CpuSet, ...], runs: dict[str, Accelerator], whether: bool
) -> None:
    assert matter(Abilities("aarch64", runs, clusters)) is whether


@pytest.mark.parametrize(
    ("guest", "cpuset"),
    [
        (domain(1), {4, 5, 6, 7}),
        (domain(1, arch="armv7l"), {0, 1, 2, 3}),
        (domain(1, "qemu", "riscv64"), None),
    ],
)
def test_settle(guest: Any, cpuset: set[int] | None) -> None:
    others = ["<domain><vcpu cpuset='0-3'>1</vcpu></domain>"]
    settle(guest, Abilities("aarch64", HARDWARE, RK3588), ALL, others)
    assert guest.cpuset == cpuset
