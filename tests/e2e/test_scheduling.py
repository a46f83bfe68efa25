"""Which node runs what: what the node publishes, and what is said where no node takes a server."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from testcloud import FLAVOR, IMAGE, TestCloud

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

UNKNOWN = "ia64"
"""An architecture that Nova has a name for and QEMU no emulator."""


def get(cloud: TestCloud, path: str) -> Any:
    return cloud.sdk.placement.get(path, microversion="1.6").json()


@pytest.fixture
def fault(cloud: TestCloud) -> Iterator[Callable[..., str]]:
    """Asks for a server that cannot be; the message of its fault."""
    compute = cloud.sdk.compute
    with ExitStack() as ending:

        def ask(image: Any, flavor: Any) -> str:
            network = cloud.sdk.network.find_network("private")
            server = compute.create_server(
                name="none",
                image_id=image.id,
                flavor_id=flavor.id,
                networks=[{"uuid": network.id}],
            )
            ending.callback(compute.wait_for_delete, server, interval=0.3, wait=60)
            ending.callback(compute.delete_server, server)
            compute.wait_for_status(server, "ERROR", failures=["ACTIVE"], interval=0.3, wait=60)
            return str(compute.get_server(server).fault["message"])

        yield ask


@pytest.fixture
def tiny(cloud: TestCloud) -> Any:
    return cloud.sdk.image.find_image(IMAGE)


@pytest.fixture
def nano(cloud: TestCloud) -> Any:
    return cloud.sdk.compute.find_flavor(FLAVOR)


def test_the_node_publishes_what_it_runs(cloud: TestCloud) -> None:
    (node,) = get(cloud, "/resource_providers")["resource_providers"]
    traits = set(get(cloud, f"/resource_providers/{node['uuid']}/traits")["traits"])
    assert {"COMPUTE_ARCH_AARCH64", "CUSTOM_COMPUTE_ARCH_ARMV7L"} <= traits
    if platform.machine() == "x86_64":
        assert {"CUSTOM_ARM_EMULATED", "HW_ARCH_X86_64"} <= traits
        assert not {"HW_ARCH_AARCH64", "HW_ARCH_ARMV7", "CUSTOM_ARM_KVM_AARCH32"} & traits


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"hw_machine_type": "q35"},
            "The image says hw_machine_type=q35, which no ARM server has.",
        ),
        # Of Debian's firmware none keeps no variables: libvirt's own words.
        ({"hw_firmware_stateless": "true"}, "Unable to find any firmware to satisfy 'efi'"),
    ],
)
def test_what_the_last_node_said_is_the_fault(
    cloud: TestCloud, nano: Any, fault: Callable[..., str], asked: dict[str, str], words: str
) -> None:
    properties = {"hw_architecture": "aarch64", "hw_firmware_type": "uefi"}
    image = cloud.sdk.image.create_image(
        name="unfit",
        data=b"\0",
        disk_format="raw",
        container_format="bare",
        validate_checksum=False,
        dozen_boot_check="skip",
        **properties,
        **asked,
    )
    try:
        assert words in fault(image, nano)
    finally:
        cloud.sdk.image.delete_image(image)


def test_an_architecture_that_no_node_runs(
    cloud: TestCloud, nano: Any, fault: Callable[..., str]
) -> None:
    image = cloud.sdk.image.create_image(
        name="foreign",
        data=b"\0",
        disk_format="raw",
        container_format="bare",
        validate_checksum=False,
        hw_architecture=UNKNOWN,
    )
    try:
        said = fault(image, nano)
    finally:
        cloud.sdk.image.delete_image(image)
    assert f"No node can run {UNKNOWN} servers." in said


CPUS = os.cpu_count() or 1


@pytest.mark.parametrize(
    ("size", "need"),
    [
        (
            {"vcpus": CPUS + 1, "ram": 256, "disk": 1},
            f"The server needs {CPUS + 1} CPUs, and no node gives one server more than {CPUS}.",
        ),
        # Quotas do not count disk.
        (
            {"vcpus": 1, "ram": 256, "disk": 1 << 20},
            "The server needs 1048576 GiB of disk, and no node gives one server more than ",
        ),
    ],
)
def test_a_flavor_too_large(
    cloud: TestCloud, tiny: Any, fault: Callable[..., str], size: dict[str, int], need: str
) -> None:
    flavor = cloud.sdk.compute.create_flavor(name="too-large", **size)
    try:
        assert need in fault(tiny, flavor)
    finally:
        cloud.sdk.compute.delete_flavor(flavor)


def test_a_node_that_is_disabled(
    cloud: TestCloud, tiny: Any, nano: Any, fault: Callable[..., str]
) -> None:
    compute = cloud.sdk.compute
    (service,) = compute.services(binary="nova-compute")
    compute.disable_service(service)
    try:
        said = fault(tiny, nano)
    finally:
        compute.enable_service(service)
    assert "The nodes that could run the server do not work now: 1 disabled." in said
