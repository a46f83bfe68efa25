"""What a host can run, from what libvirt, KVM and the processors say."""

from __future__ import annotations

import pytest

from dozencloud.compute.abilities import Accelerator, CpuSet, Offer, decide, parse_capabilities
from dozencloud.facts.cpu import Cluster
from dozencloud.facts.kvm import Kvm, KvmState

KVM, QEMU = Accelerator.KVM, Accelerator.QEMU
BOTH, EMULATED = frozenset({"kvm", "qemu"}), frozenset({"qemu"})

ARM_HOST = Offer("aarch64", {"aarch64": BOTH, "armv7l": BOTH, "riscv64": EMULATED})
X86_HOST = Offer("x86_64", {"x86_64": BOTH, "aarch64": EMULATED, "armv7l": EMULATED})
USABLE, NARROW = Kvm(KvmState.USABLE), Kvm(KvmState.USABLE, aarch32_el1=True)
UNUSABLE = Kvm(KvmState.UNUSABLE, "it refuses", aarch32_el1=True)


@pytest.mark.parametrize(
    ("offer", "virt_type", "kvm", "runs"),
    [
        (ARM_HOST, "kvm", NARROW, {"aarch64": KVM, "armv7l": KVM, "riscv64": QEMU}),
        # libvirt claims KVM for armv7l all the same.
        (ARM_HOST, "kvm", USABLE, {"aarch64": KVM, "armv7l": QEMU, "riscv64": QEMU}),
        (ARM_HOST, "kvm", UNUSABLE, {"aarch64": QEMU, "armv7l": QEMU, "riscv64": QEMU}),
        # The operator's word: no KVM.
        (ARM_HOST, "qemu", NARROW, {"aarch64": QEMU, "armv7l": QEMU, "riscv64": QEMU}),
        (X86_HOST, "kvm", USABLE, {"x86_64": KVM, "aarch64": QEMU, "armv7l": QEMU}),
        (X86_HOST, "qemu", UNUSABLE, {"x86_64": QEMU, "aarch64": QEMU, "armv7l": QEMU}),
    ],
)
def test_runs(offer: Offer, virt_type: str, kvm: Kvm, runs: dict[str, Accelerator]) -> None:
    found = decide(offer, virt_type, kvm, (Cluster("Cortex-A53", (0, 1)),))
    assert found.machine == offer.machine
    assert found.runs == runs
    assert found.clusters == (CpuSet("Cortex-A53", (0, 1), runs.get("armv7l") is KVM),)


def test_capabilities_with_an_architecture_that_nova_does_not_know() -> None:
    xml = """<capabilities><host><cpu><arch>aarch64</arch></cpu></host>
      <guest><os_type>hvm</os_type><arch name='armv7l'>
        <emulator>/usr/bin/qemu-system-aarch64</emulator>
        <domain type='qemu'/><domain type='kvm'/></arch></guest>
      <guest><os_type>hvm</os_type><arch name='loongarch64'><domain type='qemu'/></arch></guest>
    </capabilities>"""
    assert parse_capabilities(xml) == Offer("aarch64", {"armv7l": BOTH})
