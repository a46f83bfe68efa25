"""Volumes that come and go, and live migration, with the domains that our driver writes.

Two libvirtd on this machine believe themselves on two. Each has its own folders, and mounts its own
instances folder where the other one's is, so that paths are the same on both, as on real nodes.

Only a guest whose kernel sees the volume, and whose shell answers on the other side, shows that the
domain that our driver wrote can be changed while it runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from dozencloud.images.tiny import direct, uefi

pytestmark = [pytest.mark.functional, pytest.mark.timeout(300)]

if os.geteuid():
    pytest.skip("needs root", allow_module_level=True)

libvirt = pytest.importorskip("libvirt")
from novakit import Disks, NovaKit, Server  # noqa: E402

from nova import objects  # noqa: E402
from nova.virt import block_device  # noqa: E402

COMMON = {
    "hw_machine_type": "virt",
    "hw_scsi_model": "virtio-scsi",
    "hw_cdrom_bus": "scsi",
    "hw_video_model": "none",
}


@dataclass(frozen=True)
class Guest:
    """A server that runs, and how it answers at its console."""

    kind: str
    server: Server
    ready: str
    question: tuple[str, str]
    """What is typed before the move, and what comes back."""
    answer: tuple[str, str]
    """The same after it: only who took the first goes on with the second."""


LOGIN = ("ready after", ("nobody", "Password:"), ("wrong", "Login incorrect"))
KINDS = ("AArch64 by UEFI", "AArch64 by kernel", "ARMv7 by kernel")


@pytest.fixture(scope="module")
def kit() -> Iterator[NovaKit]:
    with NovaKit() as made:
        yield made


def start(kit: NovaKit, cache: Path, kind: str) -> Guest:
    width, _, way = kind.partition(" by ")
    architecture = "aarch64" if width == "AArch64" else "armv7l"
    properties = COMMON | {"hw_architecture": architecture}
    if way == "UEFI":
        disk = uefi.build(cache).disk
        server = kit.server(properties | {"hw_firmware_type": "uefi"}, Disks(disk))
    else:
        image = direct.build(architecture, cache)
        server = kit.server(
            properties | {"os_command_line": image.command_line},
            Disks(image.disk, image.kernel, image.initrd),
        )
    kit.start(server)
    guest = Guest(kind, server, *LOGIN)
    kit.wait(server, guest.ready, 90)
    return guest


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest, kit: NovaKit, cache: Path) -> Iterator[Guest]:
    made = start(kit, cache, request.param)
    yield made
    kit.destroy(made.server)


class Volume:
    """A disk of 16 MiB, and the words with which Cinder would hand it to Nova."""

    def __init__(self, kit: NovaKit, partitions: int, device: str, bus: str) -> None:
        self.id = str(uuid.uuid4())
        self.device = device
        self.bus = bus
        self.path = kit.folder / f"volume-{self.id}"
        self.connection = {
            "driver_volume_type": "gpfs",  # Nova's word for a file
            "data": {"device_path": str(self.path), "volume_id": self.id},
            "serial": self.id,
        }
        table = bytearray(512)
        for number in range(partitions):
            first, sectors, linux = 2048 * (number + 1), 2048, 0x83
            entry = struct.pack("<4xB3xII", linux, first, sectors)
            table[446 + 16 * number : 462 + 16 * number] = entry
        table[510:] = b"\x55\xaa"
        self.path.write_bytes(table)
        os.truncate(self.path, 16 << 20)

    def attach(self, kit: NovaKit, server: Server) -> None:
        kit.driver.attach_volume(
            kit.context, self.connection, server.instance, f"/dev/{self.device}", self.bus
        )
        assert str(self.path) in kit.dumpxml(server)

    def detach(self, kit: NovaKit, server: Server) -> None:
        kit.driver.detach_volume(
            kit.context, self.connection, server.instance, f"/dev/{self.device}"
        )
        assert str(self.path) not in kit.dumpxml(server)

    def mapping(self, kit: NovaKit, server: Server) -> Any:
        """As Nova's compute manager hands it over when it starts a server."""
        row = objects.BlockDeviceMapping(
            context=kit.context,
            id=1,
            no_device=False,
            guest_format=None,
            delete_on_termination=False,
            attachment_id=None,
            volume_size=1,
            volume_type=None,
            tag=None,
            encrypted=False,
            source_type="volume",
            destination_type="volume",
            instance_uuid=server.instance.uuid,
            volume_id=self.id,
            device_name=f"/dev/{self.device}",
            disk_bus=self.bus,
            device_type="disk",
            boot_index=None,
            connection_info=json.dumps(self.connection),
        )
        return block_device.DriverVolumeBlockDevice(row)


def shown(feature: str) -> pytest.MarkDecorator:
    """Each kind, and which cell of the table in docs/servers.md it proves."""
    kinds = [pytest.param(kind, marks=pytest.mark.shows(feature, kind)) for kind in KINDS]
    return pytest.mark.parametrize("guest", kinds, indirect=True)


@shown("volumes")
def test_volumes_on_scsi(kit: NovaKit, guest: Guest) -> None:
    server = guest.server
    volume = Volume(kit, 2, "sdb", "scsi")
    volume.attach(kit, server)
    kit.wait(server, r" sd[ab]: sd[ab]1 sd[ab]2\n", 30)
    volume.detach(kit, server)
    kit.wait(server, r"\[sd[ab]\] Synchronizing SCSI cache", 30)


@shown("volumes")
def test_volumes_on_virtio(kit: NovaKit, guest: Guest) -> None:
    server = guest.server
    volume = Volume(kit, 2, "vdb", "virtio")
    if guest.kind == "ARMv7 by kernel":
        # Debian's kernel knows no PCI Express hot-plug.
        kit.driver.power_off(server.instance)
        volume.attach(kit, server)
        mappings = {"block_device_mapping": [volume.mapping(kit, server)]}
        kit.driver.power_on(
            kit.context, server.instance, server.network_info, block_device_info=mappings
        )
        kit.wait(server, r" vdb: vdb1 vdb2\n", 60)
        kit.driver.power_off(server.instance)
        volume.detach(kit, server)
        kit.driver.power_on(kit.context, server.instance, server.network_info, {})
        kit.wait(server, guest.ready, 60)
    else:
        volume.attach(kit, server)
        kit.wait(server, r" vdb: vdb1 vdb2\n", 30)
        volume.detach(kit, server)
        # The guest, too, has let it go: the next one gets its name.
        other = Volume(kit, 3, "vdb", "virtio")
        other.attach(kit, server)
        kit.wait(server, r" vdb: vdb1 vdb2 vdb3\n", 30)
        other.detach(kit, server)


@pytest.fixture(scope="module")
def other_host(kit: NovaKit) -> Iterator[NovaKit]:
    made = NovaKit(Path(tempfile.mkdtemp(prefix="novakit-", dir="/var/tmp")))
    try:
        made.start_libvirt(str(uuid.uuid4()), instances=kit.folder / "instances")
        yield made
        connection = libvirt.open(made.uri)
        for domain in connection.listAllDomains():
            domain.destroy()
        connection.close()
    finally:
        made.stop_libvirt()
        shutil.rmtree(made.folder, ignore_errors=True)


def prepare(server: Server, other: NovaKit) -> Server:
    """What nova-compute there does first: the folder, kernel and initrd, disks of equal size."""
    copy = Server(server.instance, other.folder / "instances" / server.folder.name)
    copy.folder.mkdir(mode=0o711)
    (copy.folder / "console.log").touch()
    for name in ("kernel", "ramdisk"):
        with suppress(FileNotFoundError):
            shutil.copy(server.folder / name, copy.folder)
    info = ["qemu-img", "info", "-U", "--output=json", str(server.folder / "disk")]
    found = subprocess.run(info, check=True, capture_output=True, text=True).stdout
    size = str(json.loads(found)["virtual-size"])
    make = ["qemu-img", "create", "-q", "-f", "qcow2", str(copy.folder / "disk"), size]
    subprocess.run(make, check=True)
    return copy


class Keyboard:
    """The serial port's pseudoterminal, held open: QEMU looks once a second who is there."""

    def __init__(self, kit: NovaKit, server: Server) -> None:
        xml = etree.fromstring(kit.dumpxml(server).encode())
        self._path = xml.find("devices/serial/source").get("path")
        self._kit = kit
        self._server = server

    def ask(self, typed: str, answer: str) -> None:
        before = len(self._server.console)
        terminal = os.open(self._path, os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(terminal, f"{typed}\r".encode())
            end = time.monotonic() + 30
            while not re.search(answer, self._server.console[before:]):
                assert time.monotonic() < end, self._server.console[before:]
                time.sleep(0.1)
        finally:
            os.close(terminal)


def variables(kit: NovaKit, server: Server) -> bytes:
    """The firmware's; empty for a server that has none."""
    path = kit.folder / f"lib/qemu/nvram/{server.instance.name}_VARS.fd"
    return path.read_bytes() if path.exists() else b""


@shown("live migration")
def test_live_migration(kit: NovaKit, other_host: NovaKit, guest: Guest) -> None:
    """The disk is copied, the firmware's variables go along, the guest notices nothing."""
    server = guest.server
    Keyboard(kit, server).ask(*guest.question)
    before = variables(kit, server)
    assert bool(before) == guest.kind.endswith("UEFI")
    copy = prepare(server, other_host)
    uri = other_host.uri.replace("%", "%%")
    kit.override("libvirt", live_migration_uri=uri + "#%s")
    data = objects.LibvirtLiveMigrateData(
        filename="not-there",
        image_type="qcow2",
        block_migration=True,
        is_volume_backed=False,
        serial_listen_addr=None,
        serial_listen_ports=[],
        dst_cpu_shared_set_info=set(),
        target_connect_addr="127.0.0.1",
        supported_perf_events=[],
        bdms=[],
        migration=objects.Migration(context=kit.context, status="running"),
    )
    data = kit.driver.check_can_live_migrate_source(kit.context, server.instance, data)
    ended: list[str] = []
    kit.driver.live_migration(
        kit.context,
        server.instance,
        "127.0.0.1",
        lambda *_: ended.append("moved"),
        lambda *_args, **_words: ended.append("failed"),
        block_migration=True,
        migrate_data=data,
    )
    assert ended == ["moved"]
    with pytest.raises(subprocess.CalledProcessError):
        kit.dumpxml(server)
    assert variables(other_host, server) == before
    Keyboard(other_host, copy).ask(*guest.answer)
    assert "Booting Linux" not in copy.console
