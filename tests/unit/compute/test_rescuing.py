"""Rescue: what the server is started with, and what stays the server's own."""

from __future__ import annotations

from typing import Any

import pytest
from nova.virt.libvirt import config

from dozencloud.compute.libvirt import rescuing
from nova import objects

objects.register_all()

LINE = "image_os_command_line"


def server(kernel: str, line: str | None) -> Any:
    own = {"image_hw_architecture": "aarch64"} | ({LINE: line} if line else {})
    return objects.Instance(
        uuid="4d1b6a5c-3c1f-4d5e-9a3f-2b1c0d9e8f7a",
        image_ref="own",
        kernel_id=kernel,
        ramdisk_id=kernel and "initrd",
        system_metadata=own,
    )


def domain(**fields: object) -> Any:
    made = config.LibvirtConfigGuest()
    for name, value in fields.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("own", "properties", "kernel", "line"),
    [
        # by UEFI, rescued by an image with a kernel, and the other way round
        (("", None), {"kernel_id": "k2", "ramdisk_id": "r2", "os_command_line": "b"}, "k2", "b"),
        (("k1", "a"), {"hw_firmware_type": "uefi"}, "", None),
        (("k1", "a"), {"kernel_id": "k2"}, "k2", None),
        (("k1", "a"), {"kernel_id": "k2", "os_command_line": "b"}, "k2", "b"),
        (("k1", "a"), {"kernel_id": None, "ramdisk_id": None}, "", None),
    ],
)
def test_a_rescue_starts_as_its_image_does(
    own: tuple[str, str | None], properties: dict[str, Any], kernel: str, line: str | None
) -> None:
    instance = server(*own)
    before = instance.obj_to_primitive()
    copy = rescuing.as_image(instance, properties)
    assert copy.kernel_id == kernel
    assert copy.ramdisk_id == (properties.get("ramdisk_id") or "")
    assert copy.image_meta.properties.get("os_command_line") == line
    assert copy.image_meta.properties.hw_architecture == "aarch64"
    assert instance.obj_to_primitive() == before


@pytest.mark.parametrize(
    ("kernel", "line", "said"),
    [
        ("/k", "console=ttyAMA0", "console=ttyAMA0"),
        ("/k", None, "root=/dev/vda"),
        (None, "console=ttyAMA0", "root=/dev/vda"),
    ],
)
def test_command_line(kernel: str | None, line: str | None, said: str) -> None:
    guest = domain(os_kernel=kernel, os_cmdline="root=/dev/vda")
    rescuing.keep_command_line(guest, server("k", line))
    assert guest.os_cmdline == said


@pytest.mark.parametrize(
    ("old", "has_kernel", "kept"),
    [
        (None, False, False),
        ({"os_loader": "/fd", "os_nvram": "/vars"}, False, True),
        ({"os_loader": "/fd", "os_nvram": "/vars"}, True, False),
        ({"os_kernel": "/k"}, False, False),
        ({"os_kernel": "/k"}, True, False),
    ],
)
def test_firmware_is_kept_where_both_have_some(
    old: dict[str, str] | None, has_kernel: bool, kept: bool
) -> None:
    domain_before = domain(**old) if old is not None else None
    found = rescuing.firmware_to_keep(domain_before, has_kernel=has_kernel)
    assert found is (domain_before if kept else None)


def test_serial_lines_move_to_free_ports() -> None:
    xml = """<domain><devices>
      <serial type="tcp"><source mode="bind" host="127.0.0.1" service="{}"/></serial>
      <serial type="tcp"><source mode="bind" host="127.0.0.1" service="{}"/></serial>
      <serial type="pty"><source path="/dev/pts/1"/></serial>
      <console type="tcp"><source mode="bind" host="127.0.0.1" service="{}"/></console>
    </devices></domain>"""
    free = iter((20007, 20008))
    moved = rescuing.on_free_ports(xml.format(20001, 20002, 20001), lambda _address: next(free))
    assert moved == xml.format(20007, 20008, 20007)
