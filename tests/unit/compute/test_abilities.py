"""What a host can run, from what libvirt, KVM, QEMU and the processors say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dozencloud.compute.abilities import (
    Accelerator,
    CpuSet,
    Offer,
    decide,
    fastest_first,
    parse_capabilities,
)
from dozencloud.compute.drystart import Memory, User, command
from dozencloud.facts.cpu import Cluster
from dozencloud.facts.kvm import Kvm, KvmState

KVM, QEMU = Accelerator.KVM, Accelerator.QEMU
BOTH, EMULATED = frozenset({"kvm", "qemu"}), frozenset({"qemu"})
USER = User(987, 985)

ARM_HOST = Offer("aarch64", {"aarch64": BOTH, "armv7l": BOTH, "riscv64": EMULATED}, {}, USER)
ROOT_HOST = Offer("aarch64", {"aarch64": BOTH, "armv7l": BOTH}, {}, User(0, 0))
NO_ARMV7 = Offer("aarch64", {"aarch64": BOTH}, {}, USER)
X86_HOST = Offer("x86_64", {"x86_64": BOTH, "aarch64": EMULATED, "armv7l": EMULATED}, {}, USER)
USABLE, NARROW = Kvm(KvmState.USABLE), Kvm(KvmState.USABLE, aarch32_el1=True)
GUARDED = replace(NARROW, root_only=True)
UNUSABLE = Kvm(KvmState.UNUSABLE, "it refuses", aarch32_el1=True)
LITTLE, BIG = Cluster("Cortex-A55", (0, 1, 2, 3)), Cluster("Cortex-A76", (4, 5, 6, 7))


@pytest.mark.parametrize(
    ("offer", "virt_type", "kvm", "starts", "runs"),
    [
        (ARM_HOST, "kvm", NARROW, True, {"aarch64": KVM, "armv7l": KVM, "riscv64": QEMU}),
        # libvirt claims KVM for armv7l all the same.
        (ARM_HOST, "kvm", USABLE, True, {"aarch64": KVM, "armv7l": QEMU, "riscv64": QEMU}),
        (ARM_HOST, "kvm", NARROW, False, {"aarch64": KVM, "armv7l": QEMU, "riscv64": QEMU}),
        (ARM_HOST, "kvm", UNUSABLE, True, {"aarch64": QEMU, "armv7l": QEMU, "riscv64": QEMU}),
        # QEMU may not open the device, unless it runs as root.
        (ARM_HOST, "kvm", GUARDED, True, {"aarch64": QEMU, "armv7l": QEMU, "riscv64": QEMU}),
        (ROOT_HOST, "kvm", GUARDED, True, {"aarch64": KVM, "armv7l": KVM}),
        # The operator's word: no KVM.
        (ARM_HOST, "qemu", NARROW, True, {"aarch64": QEMU, "armv7l": QEMU, "riscv64": QEMU}),
        (NO_ARMV7, "kvm", NARROW, True, {"aarch64": KVM}),
        (X86_HOST, "kvm", USABLE, True, {"x86_64": KVM, "aarch64": QEMU, "armv7l": QEMU}),
        (X86_HOST, "qemu", UNUSABLE, True, {"x86_64": QEMU, "aarch64": QEMU, "armv7l": QEMU}),
    ],
)
def test_runs(
    offer: Offer, virt_type: str, kvm: Kvm, starts: bool, runs: dict[str, Accelerator]
) -> None:
    found = decide(offer, virt_type, kvm, [LITTLE], lambda cluster: starts)
    assert found.machine == offer.machine
    assert found.runs == runs
    assert found.clusters == (CpuSet(LITTLE.model, LITTLE.cpus, runs.get("armv7l") is KVM),)


@pytest.mark.parametrize(
    ("able", "armv7l"), [({LITTLE, BIG}, KVM), ({LITTLE}, KVM), ({BIG}, KVM), (set(), QEMU)]
)
def test_each_kind_of_cpu_is_asked(able: set[Cluster], armv7l: Accelerator) -> None:
    found = decide(ARM_HOST, "kvm", NARROW, [LITTLE, BIG], able.__contains__)
    assert [each.aarch32 for each in found.clusters] == [LITTLE in able, BIG in able]
    assert found.runs["armv7l"] is armv7l


@pytest.mark.parametrize(
    ("virt_type", "kvm", "offer"),
    [
        ("qemu", NARROW, ARM_HOST),
        ("kvm", USABLE, ARM_HOST),
        ("kvm", UNUSABLE, ARM_HOST),
        ("kvm", NARROW, NO_ARMV7),
        ("kvm", NARROW, X86_HOST),
    ],
)
def test_qemu_is_not_started_in_vain(virt_type: str, kvm: Kvm, offer: Offer) -> None:
    asked: list[Cluster] = []
    decide(offer, virt_type, kvm, [LITTLE, BIG], lambda each: bool(asked.append(each)))
    assert not asked


def test_capabilities() -> None:
    xml = """<capabilities>
      <host>
        <cpu><arch>aarch64</arch></cpu>
        <secmodel><model>none</model><doi>0</doi></secmodel>
        <secmodel><model>dac</model><doi>0</doi>
          <baselabel type='kvm'>+987:+985</baselabel><baselabel type='qemu'>+987:+985</baselabel>
        </secmodel>
      </host>
      <guest><os_type>hvm</os_type><arch name='armv7l'>
        <emulator>/usr/bin/qemu-system-aarch64</emulator>
        <domain type='qemu'/><domain type='kvm'/></arch></guest>
      <guest><os_type>hvm</os_type><arch name='loongarch64'><domain type='qemu'/></arch></guest>
    </capabilities>"""
    emulators = {"armv7l": Path("/usr/bin/qemu-system-aarch64")}
    assert parse_capabilities(xml) == Offer("aarch64", {"armv7l": BOTH}, emulators, USER)


@pytest.mark.parametrize(
    ("capacities", "order"),
    [
        ({0: 414, 4: 1024}, [BIG, LITTLE]),
        ({0: 1024, 4: 414}, [LITTLE, BIG]),
        # Machines with ACPI and old kernels do not say.
        ({}, [LITTLE, BIG]),
    ],
)
def test_fastest_first(tmp_path: Path, capacities: dict[int, int], order: list[Cluster]) -> None:
    for number, capacity in capacities.items():
        folder = tmp_path / f"cpu{number}"
        folder.mkdir()
        (folder / "cpu_capacity").write_text(f"{capacity}\n")
    assert fastest_first([LITTLE, BIG], tmp_path) == order


def test_command_of_a_dry_start() -> None:
    words = command(Path("/q"), BIG.cpus)
    assert words[:4] == ["taskset", "-c", "4,5,6,7", "/q"]
    assert words[words.index("-cpu") + 1] == "host,aarch64=off,sve=off"
    assert words[words.index("-accel") + 1] == "kvm"


def test_answers_are_remembered_for_one_qemu_and_user(tmp_path: Path) -> None:
    path, qemu = tmp_path / "aarch32.json", tmp_path / "qemu"
    qemu.write_text("7.2")
    Memory(path, qemu, USER).put(["q", "0"], True)
    Memory(path, qemu, USER).put(["q", "4"], False)
    assert [Memory(path, qemu, USER).get(["q", cpu]) for cpu in "048"] == [True, False, None]
    assert Memory(path, qemu, User(1, 985)).get(["q", "0"]) is None
    qemu.write_text("10.0")
    assert Memory(path, qemu, USER).get(["q", "0"]) is None
    Memory(path, qemu, USER).put(["q", "4"], True)
    assert Memory(path, qemu, USER).get(["q", "0"]) is None
    path.write_text("{broken")
    assert Memory(path, qemu, USER).get(["q", "4"]) is None


def test_an_answer_that_cannot_be_kept_is_no_failure(tmp_path: Path) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text("7.2")
    memory = Memory(tmp_path / "missing" / "aarch32.json", qemu, USER)
    memory.put(["q", "0"], True)
    assert memory.get(["q", "0"]) is None
