"""What this host can run, and with what: asked from KVM, QEMU and libvirt, never assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import nova.conf
from lxml import etree
from nova.exception import InvalidArchitectureName
from nova.objects.fields import Architecture

from dozencloud.facts.cpu import Cluster, cpu
from dozencloud.facts.kvm import Kvm, kvm

CONF = nova.conf.CONF


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

    All architectures by Nova's names. More than one cluster: the host is big.LITTLE.
    """

    machine: str
    runs: Mapping[str, Accelerator]
    clusters: tuple[CpuSet, ...]


@cache
def abilities(host: Any) -> Abilities:
    """What the machine behind Nova's libvirt `host` can run. Asked once in a process's life."""
    offer = parse_capabilities(host.get_connection().getCapabilities())
    return decide(offer, CONF.libvirt.virt_type, kvm(), cpu().clusters)


@dataclass(frozen=True)
class Offer:
    """What libvirt says. domains: architecture → domain types with an emulator behind them."""

    machine: str
    domains: Mapping[str, frozenset[str]]


def parse_capabilities(xml: str) -> Offer:
    """Read libvirt's capabilities; architectures that Nova has no name for are left out."""
    root = etree.fromstring(xml.encode())
    domains = {}
    for arch in root.iterfind("guest/arch"):
        try:
            name = Architecture.canonicalize(arch.get("name"))
        except InvalidArchitectureName:
            continue
        domains[name] = frozenset(str(each.get("type")) for each in arch.iterfind("domain"))
    return Offer(Architecture.canonicalize(root.findtext("host/cpu/arch")), domains)


def decide(offer: Offer, virt_type: str, found: Kvm, clusters: tuple[Cluster, ...]) -> Abilities:
    """Put together what libvirt, the operator (virt_type) and KVM say."""
    hardware = virt_type == "kvm" and found.usable
    narrow = hardware and offer.machine == Architecture.AARCH64 and found.aarch32_el1

    def best(architecture: str, types: frozenset[str]) -> Accelerator:
        # libvirt claims KVM for armv7l on every aarch64 host.
        truly = narrow if architecture == Architecture.ARMV7 else hardware
        return Accelerator.KVM if truly and "kvm" in types else Accelerator.QEMU

    return Abilities(
        machine=offer.machine,
        runs={name: best(name, types) for name, types in offer.domains.items()},
        clusters=tuple(CpuSet(each.model, each.cpus, narrow) for each in clusters),
    )
