"""Images that users bring: what inspection finds is what their servers are; what it refuses.

That what it calls bootable boots, in four kinds: test_server_life.py.

Only here Glance itself imports, as another user and in its own process.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from testcloud import TestCloud, eventually, settle
from tinyimages import (
    Made,
    arm64_kernel,
    arm64_uefi,
    arm64_uefi_4k,
    armhf_kernel,
)

from dozencloud.images.debian import disk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MIB = 1 << 20
SILENCE = 20.0
"""Seconds after which a server that boots has shown its login prompt; emulated, on two cores."""
EFI_X86 = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0\x64\x86" + bytes(400)
"""The start of an EFI program for x86-64."""
MBR_PARTITION = (
    b"\x80\0\0\0\x83\0\0\0" + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little")
)


@pytest.fixture(scope="module", autouse=True)
def images_go(cloud: TestCloud) -> Iterator[None]:
    """Images that the tests make are removed in the end."""
    images = cloud.sdk.image

    def there() -> list[Any]:
        return [*images.images(), *images.images(is_hidden=True)]

    before = {image.id for image in there()}
    yield
    for image in there():
        if image.id not in before:
            images.delete_image(image)


def x86_loader(made: Made) -> Path:
    """A whole EFI system partition, as of an x86 cloud image."""
    target = made.folder / "x86.img"
    with target.open("wb") as file:
        file.truncate(40 * MIB)
    program = made.folder / "bootx64.efi"
    program.write_bytes(EFI_X86)
    disk.make_esp(target, 0, 40 * MIB, 0x12345678, {"EFI/BOOT/BOOTX64.EFI": program}, 1 << 30)
    return target


def bios(made: Made) -> Path:
    """Boot code and a partition in a master boot record."""
    target = made.folder / "bios.img"
    record = b"\xeb\x63\x90" + bytes(443) + MBR_PARTITION + bytes(48) + b"\x55\xaa"
    target.write_bytes(record + bytes(4 * MIB))
    return target


@pytest.fixture
def server(cloud: TestCloud) -> Iterator[Callable[[str], Any]]:
    """Starts a server of an image by its name."""
    admin = cloud.admin()

    def start(image: str) -> Any:
        found = cloud.sdk.image.find_image(image)
        network = cloud.sdk.network.find_network("private")
        made = admin.create(image, network, image_id=found.id)
        return cloud.sdk.compute.wait_for_server(made, interval=0.5, wait=60)

    yield start
    admin.clear()


def console(cloud: TestCloud, server: Any) -> str:
    return str(cloud.sdk.compute.get_server_console_output(server)["output"])


def test_newer_content_takes_the_name_and_servers_keep_the_older(
    cloud: TestCloud, made: Made, server: Callable[[str], Any]
) -> None:
    name, images, compute = "renewed", cloud.sdk.image, cloud.sdk.compute
    cloud.dozen("image", "import", str(arm64_uefi(made)), "--name", name)
    old = images.find_image(name)
    theirs = server(name)
    said = cloud.dozen("image", "import", str(arm64_kernel(made)), "--name", name).stdout
    assert f"An older {name} is hidden now, as {name}-{old.id[:8]}" in said
    (new,) = images.images(name=name)
    assert new.id != old.id
    assert images.get_image(old.id).is_hidden
    assert "dozen_import" not in new.properties
    compute.rebuild_server(theirs, image=old.id)
    eventually(
        lambda: compute.get_server(theirs.id).status == "ACTIVE", seconds=60, what="the old image"
    )
    # Now the first one is new again.
    again = cloud.dozen("image", "import", str(arm64_uefi(made)), "--name", name).stdout
    assert f"An older {name} is hidden now, as {name}-{new.id[:8]}" in again
    assert len(list(images.images(name=name))) == 1


def test_a_file_of_the_images_name_beside_it_is_no_image(
    cloud: TestCloud, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would upload it before we do."""
    monkeypatch.chdir(tmp_path)
    Path("Image").write_bytes(made.arm64.kernel.read_bytes())
    assert cloud.dozen("image", "import", "Image").stdout.startswith("Imported: Image (")


def test_an_uploaded_disk_without_properties_is_what_its_bytes_are(
    cloud: TestCloud, made: Made, server: Callable[[str], Any]
) -> None:
    """An ARM disk with sectors of 4096 bytes; Nova alone takes it for a PC's, with 512."""
    name, formats = "uploaded", ("--disk-format", "raw", "--container-format", "bare")
    path = arm64_uefi_4k(made)
    cloud.dozen("openstack", "image", "create", "--file", str(path), *formats, name)
    found = server(name)
    eventually(
        lambda: "login:" in console(cloud, found), seconds=90, what="the login prompt", every=1
    )
    said = console(cloud, found)
    assert "(aarch64, Linux" in said
    assert "4096-byte logical blocks" in said and "vda1" in said


def test_the_small_image_finds_its_key_where_there_is_ipv6_alone(cloud: TestCloud) -> None:
    admin, net = cloud.admin(), cloud.sdk.network
    network = net.create_network(name="six")
    admin.later(lambda: net.delete_network(network))
    slaac = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    net.create_subnet(network_id=network.id, ip_version=6, cidr="fd00:6::/64", **slaac)
    try:
        made = admin.create("six", network)
        found = cloud.sdk.compute.wait_for_server(made, interval=0.5, wait=60)
        eventually(
            lambda: "tiny: 1 key(s) from the metadata service" in console(cloud, found),
            seconds=90,
            what="the key",
            every=1,
        )
    finally:
        admin.clear()


AS_ARM = ("hw_architecture=aarch64", "hw_firmware_type=uefi", "hw_machine_type=virt")


def forced(cloud: TestCloud, path: Path, name: str, *properties: str) -> None:
    """Imported although it is refused."""
    options = [word for each in properties for word in ("--property", each)]
    cloud.dozen("image", "import", str(path), "--name", name, "--force", *options)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (x86_loader, "x86-64 loader only: this image cannot start on ARM."),
        (bios, "MBR boot code and no EFI system partition: ARM has no BIOS."),
    ],
)
def test_what_cannot_boot_is_refused_and_can_be_forced(
    cloud: TestCloud, made: Made, make: Callable[[Made], Path], reason: str
) -> None:
    path, name = make(made), make.__name__
    refused = cloud.dozen("image", "import", str(path), "--name", name, code=1)
    assert reason in refused.stderr
    assert cloud.sdk.image.find_image(name) is None
    forced(cloud, path, name, *AS_ARM)
    assert cloud.sdk.image.find_image(name).status == "active"


def test_what_its_bytes_say_counts_more_than_what_is_said(cloud: TestCloud, made: Made) -> None:
    path, name, own = armhf_kernel(made), "other-state", "hw_architecture=aarch64"
    refused = cloud.dozen("image", "import", str(path), "--name", name, "--property", own, code=1)
    assert "hw_architecture says aarch64, but its bytes are armv7l" in refused.stderr


@pytest.mark.long
@pytest.mark.parametrize("make", [x86_loader, bios])
def test_what_is_refused_does_not_boot(
    cloud: TestCloud, made: Made, server: Callable[[str], Any], make: Callable[[Made], Path]
) -> None:
    name = f"long {make.__name__}"
    forced(cloud, make(made), name, *AS_ARM)
    found = server(name)
    eventually(
        lambda: (
            "UEFI Interactive Shell" in console(cloud, found)
            or "No bootable option" in console(cloud, found)
            or "failed to load" in console(cloud, found)
        ),
        seconds=90,
        what="the firmware's complaint",
        every=1,
    )
    assert "login:" not in console(cloud, found)


@pytest.mark.long
def test_a_32_bit_kernel_in_64_bit_state_is_silent(
    cloud: TestCloud, made: Made, server: Callable[[str], Any]
) -> None:
    name = "wrong-state"
    forced(cloud, armhf_kernel(made), name, "hw_architecture=aarch64")
    found = server(name)
    time.sleep(SILENCE)
    assert console(cloud, found).strip() == ""


def ended(cloud: TestCloud, name: str) -> Any:
    """The image after its import."""

    def found() -> Any:
        image = cloud.sdk.image.find_image(name)
        tasks = cloud.sdk.image.get(f"/images/{image.id}/tasks").json()["tasks"]
        return image if tasks and tasks[0]["status"] in ("success", "failure") else None

    return eventually(found, seconds=60, what=f"the end of the import of {name}")


FOUND = ("hw_", "img_", "trait:", "os_type", "os_distro", "os_version", "os_command_line")
"""How names of properties begin that inspection finds."""


def found_in(cloud: TestCloud, image: Any) -> dict[str, Any]:
    """What inspection says of an image; without what its owner says in these tests."""
    told = cloud.sdk.image.get(f"/images/{image.id}").json()
    return {n: told[n] for n in told if n.startswith(FOUND) and n != "hw_video_model"}


def test_glance_does_the_same_for_imports_by_the_api(
    cloud: TestCloud, made: Made, server: Callable[[str], Any]
) -> None:
    def api(path: Path, kind: str, name: str, *more: str) -> Any:
        formats = ("--disk-format", kind, "--container-format", "bare", *more)
        cloud.dozen("openstack", "image", "create", "--import", "--file", str(path), *formats, name)
        return ended(cloud, name)

    right = api(made.uefi, "qcow2", "api-right", "--property", "hw_video_model=none")
    assert right.status == "active"
    assert right.properties["hw_architecture"] == "aarch64"
    assert right.properties["hw_firmware_type"] == "uefi"
    assert right.hw_video_model == "none"  # the owner's word
    cloud.dozen("image", "import", str(made.uefi), "--name", "command-right")
    command = cloud.sdk.image.find_image("command-right")
    assert found_in(cloud, right) == found_in(cloud, command)

    by_hand = armhf_kernel(made)
    kernel = api(by_hand, "raw", "api-kernel")
    assert kernel.status == "active"
    assert cloud.sdk.image.get_image(kernel.kernel_id).disk_format == "aki"
    found = server("api-kernel")
    eventually(lambda: "login:" in console(cloud, found), seconds=90, what="login", every=1)

    wrong = api(bios(made), "raw", "api-wrong")
    assert wrong.status == "queued"
    assert "ARM has no BIOS." in wrong.properties["dozen_refused"]
    lie = api(made.uefi, "qcow2", "api-lie", "--property", "hw_architecture=x86_64")
    assert "says x86_64, but its bytes are aarch64" in lie.properties["dozen_refused"]
    assert list((cloud.cloud.lib / "glance" / "staging").iterdir()) == []


def test_web_download_is_inspected_too(cloud: TestCloud, made: Made) -> None:
    outside = cloud.cloud.link[0]
    serve = [sys.executable, "-m", "http.server", "80", "--bind", outside]
    with subprocess.Popen(
        [*serve, "--directory", str(made.uefi.parent)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as web:
        try:
            eventually(partial(answers, outside), seconds=10, what="the web server")
            # It is no public address.
            settle(cloud, f'download_from = ["{outside}"]')
            cloud.sdk.image.create_image(
                name="from-web", disk_format="qcow2", container_format="bare"
            )
            where = ("--uri", f"http://{outside}/{made.uefi.name}")
            method = ("--method", "web-download", *where, "from-web")
            cloud.dozen("openstack", "image", "import", *method)
            found = ended(cloud, "from-web")
        finally:
            web.kill()
            settle(cloud, "download_from = []")
    assert found.status == "active"
    assert found.properties["hw_architecture"] == "aarch64"


def answers(address: str) -> bool:
    """Somebody listens on port 80."""
    with socket.socket() as probe:
        return probe.connect_ex((address, 80)) == 0
