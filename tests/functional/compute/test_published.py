"""What the driver on a real libvirtd tells Placement and Nova about this machine."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("libvirt", reason="Debian's libvirt bindings need root once to be linked")

from nova.compute.provider_tree import ProviderTree
from novakit import NovaKit

pytestmark = pytest.mark.functional

NODE = "node"


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    if os.geteuid():
        pytest.skip("needs root")
    if not shutil.which("libvirtd"):
        pytest.skip("needs libvirtd")
    with NovaKit(virt_type="qemu") as kit:
        yield kit.driver


@pytest.fixture
def tree() -> ProviderTree:
    made = ProviderTree()
    made.new_root(NODE, str(uuid4()))
    return made


def test_traits_come_go_and_stay(driver: Any, tree: ProviderTree) -> None:
    tree.add_traits(NODE, "CUSTOM_RACK_7", "HW_ARCH_ARMV7", "CUSTOM_ARM_KVM_AARCH32")
    driver.update_provider_tree(tree, NODE)
    traits = tree.data(NODE).traits
    emulated = {"COMPUTE_ARCH_AARCH64", "CUSTOM_COMPUTE_ARCH_ARMV7L", "CUSTOM_ARM_EMULATED"}
    assert {"CUSTOM_RACK_7", *emulated} <= traits
    assert not {"HW_ARCH_ARMV7", "HW_ARCH_AARCH64", "CUSTOM_ARM_KVM_AARCH32"} & traits
    if platform.machine() == "x86_64":
        assert "HW_ARCH_X86_64" in traits


def test_all_cpus_are_one_server_s_where_all_are_alike(driver: Any, tree: ProviderTree) -> None:
    driver.update_provider_tree(tree, NODE)
    cpus = tree.data(NODE).inventory["VCPU"]
    assert cpus["max_unit"] == cpus["total"] == os.sysconf("SC_NPROCESSORS_ONLN")


def test_supported_instances(driver: Any) -> None:
    supported = driver.get_available_resource(NODE)["supported_instances"]
    assert {("aarch64", "qemu", "hvm"), ("armv7l", "qemu", "hvm")} <= set(supported)
    assert not [each for each in supported if each[1] == "kvm"]
