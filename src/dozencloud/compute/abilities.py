"""What this host can run, and with what: asked from KVM, QEMU and libvirt, never assumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import nova.conf
from lxml import etree
from nova.exception import InvalidArchitectureName
from nova.objects.fields import Architecture

from dozencloud.compute import drystart
from dozencloud.facts.cpu import Cluster, cpu
from dozencloud.facts.kvm import Kvm, kvm

CONF = nova.conf.CONF

ARM = (Architecture.AARCH64, Architecture.ARMV7)
X86 = (Architecture.I686, Architecture.X86_64)

_SYSFS = Path("/sys/devices/system/cpu")


class Accelerator(StrEnum):
    """What executes a guest's instructions; the values are libvirt's domain types."""

    KVM = "kvm"
    QEMU = "qemu"


@dataclass(frozen=True)
class CpuSet:
    """The online CPUs of one kind.

    aarch32: KVM really starts 32-bit ARM guests on them.
    """

    model: str
    cpus: tuple[int, ...]
    aarch32: bool


@dataclass(frozen=True)
class Abilities:
    """machine: the host's own architecture. runs: architecture → the best that executes it.

    All architectures by Nova's names. clusters: the fastest kind of CPU first; more than one means
    big.LITTLE.
    """

    machine: str
    runs: Mapping[str, Accelerator]
    clusters: tuple[CpuSet, ...]


@cache
def abilities(host: Any) -> Abilities:
    """What the machine behind Nova's libvirt `host` can run. Asked once in a process's life."""
    offer = parse_capabilities(host.get_connection().getCapabilities())
    found = kvm()

    def aarch32(cluster: Cluster) -> bool:
        return _starts_aarch32(offer, cluster.cpus)

    return decide(offer, CONF.libvirt.virt_type, found, fastest_first(cpu().clusters), aarch32)


@dataclass(frozen=True)
class Offer:
    """What libvirt says. domains: architecture → domain types with an emulator behind them."""

    machine: str
    domains: Mapping[str, frozenset[str]]
    emulators: Mapping[str, Path]
    user: drystart.User


def parse_capabilities(xml: str) -> Offer:
    """Read libvirt's capabilities; architectures that Nova has no name for are left out."""
    root = etree.fromstring(xml.encode())
    domains, emulators = {}, {}
    for arch in root.iterfind("guest/arch"):
        try:
            name = Architecture.canonicalize(arch.get("name"))
        except InvalidArchitectureName:
            continue
        domains[name] = frozenset(str(each.get("type")) for each in arch.iterfind("domain"))
        emulators[name] = Path(arch.findtext("emulator"))
    # "+107:+64055": numbers, not names (virSecurityDACGenerateLabel).
    label = root.findtext("host/secmodel[model='dac']/baselabel[@type='qemu']", "+0:+0")
    uid, gid = (int(number.lstrip("+")) for number in label.split(":"))
    machine = Architecture.canonicalize(root.findtext("host/cpu/arch"))
    return Offer(machine, domains, emulators, drystart.User(uid, gid))


def decide(
    offer: Offer,
    virt_type: str,
    found: Kvm,
    clusters: Iterable[Cluster],
    aarch32: Callable[[Cluster], bool],
) -> Abilities:
    """Put together what libvirt, the operator (virt_type), KVM and QEMU (aarch32) say."""
    open_to_qemu = found.for_servers or (found.usable and offer.user.uid == 0)
    hardware = virt_type == "kvm" and open_to_qemu
    # libvirt claims KVM for armv7l on every aarch64 host.
    claimed = "kvm" in offer.domains.get(Architecture.ARMV7, ())
    worth_asking = hardware and claimed and offer.machine == Architecture.AARCH64
    sets = tuple(
        CpuSet(each.model, each.cpus, worth_asking and found.aarch32_el1 and aarch32(each))
        for each in clusters
    )

    def best(architecture: str, types: frozenset[str]) -> Accelerator:
        truly = hardware and "kvm" in types
        if architecture == Architecture.ARMV7:
            truly = any(each.aarch32 for each in sets)
        return Accelerator.KVM if truly else Accelerator.QEMU

    runs = {name: best(name, types) for name, types in offer.domains.items()}
    return Abilities(offer.machine, runs, sets)


def fastest_first(clusters: Iterable[Cluster], sysfs: Path = _SYSFS) -> list[Cluster]:
    """In the order of the scheduler's own measure; that of the CPUs' numbers where it has none."""

    def capacity(cluster: Cluster) -> int:
        try:
            return int((sysfs / f"cpu{cluster.cpus[0]}" / "cpu_capacity").read_text())
        except OSError:
            return 0

    return sorted(clusters, key=capacity, reverse=True)


def _starts_aarch32(offer: Offer, cpus: Iterable[int]) -> bool:
    """Ask QEMU, or remember what it said; a doubt counts as no, and is not remembered."""
    emulator = offer.emulators[Architecture.ARMV7]
    memory = drystart.Memory(Path(CONF.state_path, "aarch32.json"), emulator, offer.user)
    words = drystart.command(emulator, cpus)
    if (answer := memory.get(words)) is None:
        answer = drystart.starts(words, offer.user)
        if answer is not None:
            memory.put(words, answer)
    return bool(answer)
