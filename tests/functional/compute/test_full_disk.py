"""A server whose disk finds no room on its host."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dozencloud.images.tiny import direct

pytestmark = [pytest.mark.functional, pytest.mark.timeout(300)]

if os.geteuid():
    pytest.skip("needs root", allow_module_level=True)

libvirt = pytest.importorskip("libvirt")
from novakit import Disks, NovaKit  # noqa: E402

from dozencloud.compute.libvirt import driver, fulldisk  # noqa: E402

MIB = 1 << 20
ROOM = MIB // 8
"""Bytes that are free; a first start writes more."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for little, where QEMU's user may go."""
    image = tmp_path / "small.img"
    image.write_bytes(b"")
    os.truncate(image, 96 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    with tempfile.TemporaryDirectory(prefix="dzfull", dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        done = subprocess.run(["mount", "-o", "loop", str(image), place], capture_output=True)
        if done.returncode:
            pytest.skip(f"no loop device: {done.stderr!r}")
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


def test_it_waits_for_room_and_runs_to_nova(small: Path, cache: Path) -> None:
    made = direct.build("aarch64", cache)
    ballast = small / "ballast"
    with NovaKit() as kit:
        properties = {
            "hw_architecture": "aarch64",
            "hw_machine_type": "virt",
            "os_command_line": made.command_line,
        }
        server = kit.server(properties, Disks(made.disk, made.kernel, made.initrd))
        disk = server.folder / "disk"
        (small / "disk").write_bytes(disk.read_bytes())
        disk.unlink()
        disk.symlink_to(small / "disk")
        free = os.statvfs(small)
        with ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, free.f_bavail * free.f_frsize - ROOM)
        connection = kit.driver._host.get_connection()

        def waits() -> bool:
            return fulldisk.waits(connection, server.instance.uuid)

        guest = kit.start(server)
        assert not waits()
        kit.until(waits, "stop", 90)
        assert kit.driver.get_info(server.instance).state == driver.power_state.RUNNING
        assert fulldisk.go_on(connection) == [server.instance.name]
        kit.until(waits, "second stop", 90)
        ballast.unlink()
        fulldisk.go_on(connection)
        kit.wait(server, "login:", 120)
        assert not waits()

        guest.pause()
        assert not waits()
        assert kit.driver.get_info(server.instance).state == driver.power_state.PAUSED
        assert fulldisk.go_on(connection) == []
        assert not fulldisk.waits(connection, "00000000-0000-0000-0000-000000000000")
