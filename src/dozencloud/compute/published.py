"""What Nova and Placement are told about this host.

Upstream's libvirt driver repeats libvirt, which claims KVM for 32-bit ARM on every aarch64 host and
leaves out what it emulates where KVM works.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import os_resource_classes
import os_traits
from nova.objects.fields import Architecture, HVType
from nova.virt.hardware import format_cpu_spec

from dozencloud.compute import clusters
from dozencloud.compute.abilities import ARM, Abilities, Accelerator

RUNS_ARMV7 = "CUSTOM_COMPUTE_ARCH_ARMV7L"
"""Starts 32-bit ARM servers, in hardware or by emulation: os-traits has no COMPUTE_ARCH_ for it."""
KVM_AARCH32 = "CUSTOM_ARM_KVM_AARCH32"
"""KVM runs 32-bit ARM kernels on this 64-bit host."""
EMULATED = "CUSTOM_ARM_EMULATED"
"""ARM servers are emulated here."""

_COMPUTE_ARCH = "COMPUTE_ARCH_"
_CPU_CLASSES = (os_resource_classes.VCPU, os_resource_classes.PCPU)


def traits(found: Abilities) -> dict[str, bool]:
    """Trait → whether the host has it, for all that we decide. Others are left as they are."""

    def in_hardware(architecture: str) -> bool:
        return found.runs.get(architecture) is Accelerator.KVM

    narrow = in_hardware(Architecture.ARMV7)
    runs = {
        trait: trait.removeprefix(_COMPUTE_ARCH).lower() in found.runs
        for trait in os_traits.get_traits(prefix=_COMPUTE_ARCH)
    }
    return runs | {
        RUNS_ARMV7: Architecture.ARMV7 in found.runs,
        os_traits.HW_ARCH_AARCH64: in_hardware(Architecture.AARCH64),
        os_traits.HW_ARCH_ARMV7: narrow,
        KVM_AARCH32: narrow and found.machine == Architecture.AARCH64,
        EMULATED: found.runs.get(Architecture.AARCH64) is Accelerator.QEMU,
    }


def instances(
    found: Abilities, claimed: Iterable[tuple[str, str, str]]
) -> list[tuple[str, str, str]]:
    """Of what libvirt claims as (architecture, hypervisor, mode), that which is true."""
    return [
        claim
        for claim in claimed
        if claim[1] != HVType.KVM or found.runs.get(claim[0]) is Accelerator.KVM
    ]


def cpu_info(found: Abilities, upstream: str) -> str:
    """Upstream's JSON, on ARM with the model of each kind of CPU.

    libvirt knows few ARM processors, and says the first CPU's on big.LITTLE.
    """
    if found.machine not in ARM:
        return upstream
    kinds = sorted(found.clusters, key=lambda kind: kind.cpus)
    models = [kind.model for kind in kinds]
    if clusters.matter(found):
        # A server that moves stays on CPUs of the same numbers.
        models = [f"{kind.model} ({format_cpu_spec(set(kind.cpus))})" for kind in kinds]
    return json.dumps(json.loads(upstream) | {"model": " + ".join(models)})


def inventory(
    found: Abilities, upstream: Mapping[str, dict[str, Any]], usable: Mapping[str, Iterable[int]]
) -> dict[str, dict[str, Any]]:
    """Upstream's inventory, with no server larger than the CPUs of one kind.

    usable: resource class → the host's CPUs that it counts.
    """
    cut = dict(upstream)
    for name in _CPU_CLASSES:
        if name in upstream and clusters.matter(found):
            most = clusters.largest(found.clusters, usable[name])
            cut[name] = upstream[name] | {"max_unit": most}
    return cut
