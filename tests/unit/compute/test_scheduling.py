"""Which node a server goes to, and the sentence where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nova.conf
import nova.service
import os_traits
import pytest
from nova.exception import NoValidHost
from nova.scheduler import request_filter
from nova.scheduler.host_manager import HostState
from nova.scheduler.utils import ResourceRequest
from nova.scheduler.weights import HostWeightHandler

from dozencloud.compute.scheduling import scheduler, staying
from dozencloud.compute.scheduling.manager import Scheduler, amounts, request
from dozencloud.compute.scheduling.reasons import Amount, Asked, Candidate, why_none
from dozencloud.images.inspection.model import Arch, Boot, Format, Inspection
from dozencloud.images.properties import properties
from nova import objects

objects.register_all()

ARMV7L = "CUSTOM_COMPUTE_ARCH_ARMV7L"


# ---- reasons ------------------------------------------------------------------------------

PC = Candidate(
    enabled=True,
    up=True,
    runs=frozenset({"x86_64", "aarch64", "armv7l"}),
    traits=frozenset({"COMPUTE_ARCH_X86_64", "COMPUTE_ARCH_AARCH64", ARMV7L}),
    amounts={
        "VCPU": Amount(most=2, free=30),
        "MEMORY_MB": Amount(most=16384, free=2048),
        "DISK_GB": Amount(most=200, free=150),
    },
)
BOARD = Candidate(
    enabled=True,
    up=True,
    runs=frozenset({"aarch64"}),
    traits=frozenset({"COMPUTE_ARCH_AARCH64", "HW_ARCH_AARCH64"}),
    amounts={
        "VCPU": Amount(most=4, free=0),
        "MEMORY_MB": Amount(most=4096, free=4096),
        "DISK_GB": Amount(most=20, free=20),
    },
)
SMALL = {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}


@pytest.mark.parametrize(
    ("asked", "nodes", "said"),
    [
        (Asked("armv7l", frozenset({ARMV7L}), SMALL), [PC, BOARD], ""),
        (
            Asked("s390x", frozenset({"COMPUTE_ARCH_S390X"}), SMALL),
            [PC, BOARD],
            "No node can run s390x servers. Nodes here run aarch64, armv7l, x86_64.",
        ),
        (
            Asked("ia64", frozenset(), SMALL),
            [replace(PC, runs=frozenset(f"arch{number}" for number in range(30)))],
            "No node can run ia64 servers.",
        ),
        (
            Asked("armv7l", frozenset({ARMV7L}), SMALL),
            [BOARD],
            "No node can run armv7l servers. Nodes here run aarch64.",
        ),
        (
            Asked("armv7l", frozenset({ARMV7L, "HW_ARCH_ARMV7"}), SMALL),
            [PC, BOARD],
            "No node that could run the server has the trait HW_ARCH_ARMV7.",
        ),
        (
            Asked("", frozenset({ARMV7L, "HW_ARCH_AARCH64"}), SMALL),
            [PC, BOARD],
            "No node has all of the traits CUSTOM_COMPUTE_ARCH_ARMV7L, HW_ARCH_AARCH64.",
        ),
        (
            Asked("armv7l", frozenset({ARMV7L}), SMALL),
            [replace(PC, up=False), BOARD],
            "The nodes that could run the server do not work now: 1 down.",
        ),
        (
            Asked("aarch64", frozenset(), SMALL),
            [replace(PC, up=False), replace(PC, enabled=False), replace(BOARD, up=False)],
            "The nodes that could run the server do not work now: 2 down, 1 disabled.",
        ),
        (
            Asked("aarch64", frozenset(), SMALL | {"VCPU": 8}),
            [PC, BOARD],
            "The server needs 8 CPUs, and no node gives one server more than 4.",
        ),
        (
            Asked("aarch64", frozenset(), SMALL | {"MEMORY_MB": 20000}),
            [PC, BOARD],
            "The server needs 20000 MiB of memory, and no node gives one server more than 16384.",
        ),
        (
            Asked("aarch64", frozenset(), SMALL | {"MEMORY_MB": 8192}),
            [PC, BOARD],
            "The server needs 8192 MiB of memory, and no node has more than 4096 left.",
        ),
        (
            Asked("aarch64", frozenset(), SMALL | {"DISK_GB": 500}),
            [PC],
            "The server needs 500 GiB of disk, and no node gives one server more than 200.",
        ),
        (
            Asked("aarch64", frozenset(), SMALL),
            [BOARD],
            "The server needs 1 CPU, and no node has any left.",
        ),
        (
            Asked("aarch64", frozenset(), {"PCPU": 2}),
            [PC],
            "The server needs 2 dedicated CPUs, and no node has any.",
        ),
        # Each node lacks something else.
        (
            Asked("aarch64", frozenset(), {"VCPU": 1, "MEMORY_MB": 4000}),
            [PC, BOARD],
            "No node has all of it left: 1 CPU, 4000 MiB of memory.",
        ),
        (
            Asked("aarch64", frozenset(), SMALL, count=50),
            [PC],
            "There is no room for 50 such servers.",
        ),
        # What only some servers ask for is left to upstream.
        (Asked("aarch64", frozenset(), SMALL | {"VGPU": 1}), [PC], ""),
        (Asked("aarch64", frozenset(), SMALL), [], "The cloud has no other node."),
    ],
)
def test_reasons(asked: Asked, nodes: list[Candidate], said: str) -> None:
    assert why_none(asked, nodes) == said


def test_amounts_are_counted_as_placement_counts() -> None:
    inventories: dict[str, dict[str, Any]] = {
        "VCPU": {"total": 2, "reserved": 0, "allocation_ratio": 16.0, "max_unit": 2},
        "MEMORY_MB": {"total": 4096, "reserved": 512, "allocation_ratio": 1.0, "max_unit": 4096},
    }
    assert dict(amounts(inventories, {"VCPU": 3})) == {
        "VCPU": Amount(most=2, free=29),
        "MEMORY_MB": Amount(most=3584, free=3584),
    }


# ---- what an image asks for ---------------------------------------------------------------


def spec_of(arch: Arch) -> Any:
    inspection = Inspection(Format.QCOW2, Boot.UEFI, arch=arch)
    return objects.RequestSpec(
        image=objects.ImageMeta.from_dict({"properties": properties(inspection)}),
        flavor=objects.Flavor(
            vcpus=1, memory_mb=256, root_gb=1, ephemeral_gb=0, swap=0, extra_specs={}
        ),
        requested_resources=[],
        is_bfv=False,
        scheduler_hints={},
    )


@pytest.mark.parametrize(
    ("arch", "trait"), [(Arch.ARMV7L, ARMV7L), (Arch.AARCH64, "COMPUTE_ARCH_AARCH64")]
)
def test_an_image_asks_placement_for_its_architecture(arch: Arch, trait: str) -> None:
    spec = spec_of(arch)
    asked = request(spec, ResourceRequest.from_request_spec(spec), 2)
    resources = {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}
    assert asked == Asked(arch.value, frozenset({trait}), resources, 2)


def test_the_trap_of_upstream_s_prefilter() -> None:
    """It computes a trait for armv7l that does not exist, and then asks for nothing at all."""
    conf = nova.conf.CONF
    conf.set_override("image_metadata_prefilter", True, "scheduler")
    try:
        spec = spec_of(Arch.ARMV7L)
        assert request_filter.transform_image_metadata(None, spec) is False
    finally:
        conf.clear_override("image_metadata_prefilter", "scheduler")
    assert spec.root_required == set()
    assert not hasattr(os_traits, "HW_ARCH_ARMV7L")
    # Our images do not need it.
    assert ARMV7L in ResourceRequest.from_request_spec(spec).all_required_traits


# ---- hardware before emulation ------------------------------------------------------------


def host(name: str, size: int, *kinds: tuple[str, str]) -> Any:
    state = HostState(name, name, "cell")
    state.supported_instances = [[arch, kind, "hvm"] for arch, kind in kinds]
    state.free_ram_mb = state.free_disk_mb = state.vcpus_total = size
    state.cpu_allocation_ratio = 1.0
    return state


BOTH = (("aarch64", "kvm"), ("aarch64", "qemu"), ("armv7l", "qemu"))
# The less hardware, the more attractive by all else.
HOSTS = [
    host("pc", 2**20, ("x86_64", "kvm"), ("aarch64", "qemu"), ("armv7l", "qemu")),
    host("server", 2**10, *BOTH),
    host("board", 1, *BOTH, ("armv7l", "kvm")),
]


@pytest.mark.parametrize(
    ("arch", "last"), [(Arch.ARMV7L, {"pc", "server"}), (Arch.AARCH64, {"pc"})]
)
def test_hardware_comes_first(arch: Arch, last: set[str]) -> None:
    handler = HostWeightHandler()
    names = [
        "nova.scheduler.weights.ram.RAMWeigher",
        "nova.scheduler.weights.cpu.CPUWeigher",
        "nova.scheduler.weights.disk.DiskWeigher",
        "dozencloud.compute.scheduling.weigher.HardwareWeigher",
    ]
    weighers = [cls() for cls in handler.get_matching_classes(names)]
    order = [each.obj.host for each in handler.get_weighed_objects(weighers, HOSTS, spec_of(arch))]
    assert set(order[-len(last) :]) == last


# ---- upstream takes our scheduler ---------------------------------------------------------


def test_upstream_finds_its_scheduler_where_we_put_ours() -> None:
    before = nova.service.SERVICE_MANAGERS[scheduler.BINARY]
    assert before == "nova.scheduler.manager.SchedulerManager"
    module, _, name = scheduler.MANAGER.rpartition(".")
    assert (Scheduler.__module__, Scheduler.__name__) == (module, name)


# ---- staying ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "wished", "ignored", "held"),
    [
        ("resize_prep", None, [], "here"),
        ("resize_prep", "here", [], "here"),
        ("rebuilding", None, ["here"], None),  # evacuated
        ("unshelving", "there", [], "there"),
        (None, None, [], None),
    ],
)
def test_a_server_that_is_resized_stays(
    task: str | None, wished: str | None, ignored: list[str], held: str | None
) -> None:
    instance, spec = moving(task, wished, ignored)
    staying._hold(spec, instance, None)
    found = spec.requested_destination
    assert (found.host if found and "host" in found else None) == held


@pytest.mark.parametrize(
    ("task", "wished", "ignored"),
    [("resize_prep", None, ["here"]), ("resize_prep", "there", []), ("migrating", None, ["here"])],
)
def test_a_server_is_not_migrated(task: str, wished: str | None, ignored: list[str]) -> None:
    instance, spec = moving(task, wished, ignored)
    with pytest.raises(NoValidHost, match=r"migration is false.*Shelve it"):
        staying._hold(spec, instance, None)


@pytest.mark.parametrize("task", ["resize_prep", "migrating"])
@pytest.mark.parametrize("wished", [None, "there"])
def test_nodes_that_trust_each_other_hand_servers_over(task: str, wished: str | None) -> None:
    instance, spec = moving(task, wished, ["here"])
    staying._hold(spec, instance, "controller")
    assert spec.ignore_hosts == ["here", "controller"]
    assert (spec.requested_destination.host if wished else None) == wished


def test_the_controller_hands_none_over_and_takes_none() -> None:
    for controller, wished in (("here", None), ("there", "there")):
        instance, spec = moving("migrating", wished, ["here"])
        with pytest.raises(NoValidHost, match=r"the controller.*Shelve it"):
            staying._hold(spec, instance, controller)
    instance, spec = moving("resize_prep", None, [])
    staying._hold(spec, instance, "here")
    assert spec.requested_destination.host == "here"


def moving(task: str | None, wished: str | None, ignored: list[str]) -> tuple[Any, Any]:
    destination = objects.Destination(host=wished) if wished else None
    spec = objects.RequestSpec(requested_destination=destination, ignore_hosts=ignored)
    return objects.Instance(host="here", task_state=task), spec
