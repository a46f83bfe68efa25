"""What a machine becomes for the cloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_doctor import ARM, GOOD

from dozencloud.bringup import decide_node
from dozencloud.cloud import Compute, load
from dozencloud.facts import Facts
from dozencloud.facts.kvm import Kvm, KvmState

BOARD = replace(GOOD, system=ARM, kvm=Kvm(KvmState.USABLE))


@pytest.mark.parametrize(
    ("facts", "setting", "decided"),
    [
        (BOARD, "auto", "kvm"),
        (replace(BOARD, kvm=Kvm(KvmState.UNUSABLE, "it refuses")), "auto", "qemu"),
        # QEMU's user could not open it.
        (replace(BOARD, kvm=Kvm(KvmState.USABLE, root_only=True)), "auto", "qemu"),
        # KVM of an x86 processor runs no ARM servers.
        (GOOD, "auto", "qemu"),
        (BOARD, "qemu", "qemu"),
        (GOOD, "kvm", "kvm"),
    ],
)
def test_hardware_or_emulation(facts: Facts, setting: str, decided: str) -> None:
    cloud = load(Path("/nonexistent"))
    cloud = replace(cloud, settings=replace(cloud.settings, compute=Compute(virt_type=setting)))
    assert decide_node(cloud, facts).virt_type == decided
