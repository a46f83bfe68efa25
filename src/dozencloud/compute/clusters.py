"""big.LITTLE: a server under KVM lives on CPUs of one kind.

A guest that moves between kinds sees its own processor change under it: errata, cache sizes and
the performance counters differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lxml import etree
from nova.objects.fields import Architecture
from nova.virt.hardware import parse_cpu_spec

from dozencloud.compute.abilities import Abilities, Accelerator, CpuSet
from dozencloud.errors import Problem


@dataclass(frozen=True)
class Running:
    """A server that runs: how many CPUs it has, and which of the host's it may use."""

    vcpus: int
    cpus: frozenset[int]


def matter(found: Abilities) -> bool:
    """Whether servers here must be kept on one kind of CPU: emulated ones need not."""
    hardware = found.runs.get(found.machine) is Accelerator.KVM
    return hardware and len(found.clusters) > 1


def choose(
    clusters: Sequence[CpuSet],
    allowed: Sequence[frozenset[int]],
    *,
    aarch32: bool,
    running: Iterable[Running],
) -> frozenset[int]:
    """The CPUs of one kind on which a server runs: of those with the least load, the first.

    allowed: for each of its vCPUs, the host's CPUs that it may use.
    aarch32: its kernel is a 32-bit one.
    """
    wanted = frozenset[int]().union(*allowed)

    def fits(cluster: CpuSet) -> bool:
        cpus = wanted.intersection(cluster.cpus)
        enough = len(cpus) >= len(allowed) and all(each & cpus for each in allowed)
        return enough and (cluster.aarch32 or not aarch32)

    def load(cluster: CpuSet) -> float:
        cpus = wanted.intersection(cluster.cpus)
        return sum(each.vcpus * _share(each.cpus, cpus) for each in present) / len(cpus)

    present = tuple(running)
    candidates = [cluster for cluster in clusters if fits(cluster)]
    if not candidates:
        kinds = ", ".join(
            f"{len(wanted.intersection(each.cpus))} {each.model}"
            + (" (64-bit only)" if aarch32 and not each.aarch32 else "")
            for each in clusters
        )
        need = f"{len(allowed)} CPU{'' if len(allowed) == 1 else 's'} of one kind"
        raise Problem(
            f"The {'32-bit ' if aarch32 else ''}server needs {need}, but this node has {kinds}.",
            "Choose a flavor with fewer CPUs, or another node.",
        )
    return wanted.intersection(min(candidates, key=load).cpus)


def largest(clusters: Iterable[CpuSet], usable: Iterable[int]) -> int:
    """The most CPUs that one server can have."""
    cpus = frozenset(usable)
    return max((len(cpus.intersection(cluster.cpus)) for cluster in clusters), default=0)


def allowed_cpus(guest: Any, usable: frozenset[int]) -> tuple[frozenset[int], ...]:
    """For each vCPU of Nova's description of a domain, the host's CPUs that it may use."""
    pins = {pin.id: frozenset(pin.cpuset) for pin in guest.cputune.vcpupin} if guest.cputune else {}
    everywhere = frozenset(guest.cpuset or usable)
    return tuple(pins.get(number, everywhere) for number in range(guest.vcpus))


def confine(guest: Any, cpus: frozenset[int]) -> None:
    """Keep the domain on `cpus`."""
    if guest.cpuset or not (guest.cputune and guest.cputune.vcpupin):
        guest.cpuset = set(cpus)
    if guest.cputune:
        emulator = [guest.cputune.emulatorpin] if guest.cputune.emulatorpin else []
        for pin in [*guest.cputune.vcpupin, *emulator]:
            pin.cpuset = set(pin.cpuset & cpus) or pin.cpuset


def parse_running(xml: str, everywhere: frozenset[int]) -> Running:
    """Read from a running domain how it uses the host's CPUs."""
    vcpus = int(etree.fromstring(xml.encode()).findtext("vcpu"))
    return Running(vcpus, named_cpus(xml) or everywhere)


def named_cpus(xml: str) -> frozenset[int]:
    """The host's CPUs that a domain is kept on; empty where it names none."""
    vcpu = etree.fromstring(xml.encode()).find("vcpu")
    return frozenset(parse_cpu_spec(vcpu.get("cpuset", "")))


def settle(guest: Any, found: Abilities, usable: frozenset[int], domains: Iterable[str]) -> None:
    """Give the domain that is about to start its cluster, unless it is an emulated one.

    usable: the host's CPUs that servers may use. domains: XML of the other ones that run.
    """
    if guest.virt_type != Accelerator.KVM:
        return
    everywhere = frozenset(cpu for cluster in found.clusters for cpu in cluster.cpus)
    chosen = choose(
        found.clusters,
        allowed_cpus(guest, usable),
        aarch32=guest.os_arch == Architecture.ARMV7,
        running=[parse_running(xml, everywhere) for xml in domains],
    )
    confine(guest, chosen)


def _share(used: frozenset[int], cpus: frozenset[int]) -> float:
    """How much of a server's work falls on `cpus`."""
    return len(used & cpus) / len(used)
