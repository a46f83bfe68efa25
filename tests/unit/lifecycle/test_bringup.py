"""What a machine becomes for the cloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from facts_kit import ARM, GOOD

from dozencloud.cloud.installation import load
from dozencloud.cloud.plan import Node
from dozencloud.cloud.settings import Compute
from dozencloud.errors import Problem
from dozencloud.facts import Facts
from dozencloud.facts.cpu import Cluster
from dozencloud.facts.kvm import Kvm, KvmState
from dozencloud.lifecycle.node import decide_node

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


FOUR = replace(GOOD, cpu=replace(GOOD.cpu, clusters=(Cluster("A53", (0, 1, 2, 3)),)))


def node_of(dedicated: str) -> Node:
    cloud = load(Path("/nonexistent"))
    compute = Compute(dedicated_cpus=dedicated)
    return decide_node(replace(cloud, settings=replace(cloud.settings, compute=compute)), FOUR)


@pytest.mark.parametrize(
    ("dedicated", "kept", "shared"),
    [("", "", ""), ("3", "3", "0,1,2"), ("1-2", "1,2", "0,3"), (" 3, 0-1", "0,1,3", "2")],
)
def test_cpus_for_some_servers_alone(dedicated: str, kept: str, shared: str) -> None:
    node = node_of(dedicated)
    assert (node.dedicated_cpus, node.shared_cpus) == (kept, shared)


@pytest.mark.parametrize("dedicated", ["4", "3-9", "0-3"])
def test_cpus_that_cannot_be_given_away(dedicated: str) -> None:
    with pytest.raises(Problem, match="it has 0,1,2,3"):
        node_of(dedicated)
