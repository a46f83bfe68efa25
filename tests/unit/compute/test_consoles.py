"""Which servers have a screen, what hangs on it, and who may have a console."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from nova.exception import InstanceNotReady
from nova.virt.libvirt import config as libvirt_config

from dozencloud.compute.libvirt import consoles

# Two lines of a real /proc/net/tcp: 127.0.0.1:20000 listens, 127.0.0.1:20001 has a visitor.
SOCKETS = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000   994  0 31 1 0
   1: 0100007F:4E21 0100007F:C350 01 00000000:00000000 00:00000000 00000000   994  0 32 1 0
   2: 0100007F:C350 0100007F:4E21 01 00000000:00000000 00:00000000 00000000   995  0 33 1 0
"""


def make_guest(arch: str, firmware: str | None = None) -> Any:
    guest = libvirt_config.LibvirtConfigGuest()
    guest.os_arch, guest.os_firmware = arch, firmware
    guest.memory = consoles.SCREEN_MEMORY
    return guest


@pytest.mark.parametrize(
    ("arch", "firmware", "model", "screen"),
    [
        ("aarch64", "efi", None, True),
        ("armv7l", "efi", None, True),
        ("aarch64", None, None, False),
        ("armv7l", None, None, False),
        ("aarch64", None, "virtio", True),
        ("aarch64", "efi", "none", False),
        ("x86_64", None, None, True),
        ("riscv64", "efi", None, False),
        ("s390x", None, None, False),
        ("s390x", None, "virtio", True),
    ],
)
def test_who_has_a_screen(arch: str, firmware: str | None, model: str | None, screen: bool) -> None:
    assert consoles.can_show(make_guest(arch, firmware), model) is screen


@pytest.mark.parametrize(
    ("arch", "firmware", "screen"),
    [("aarch64", "efi", False), ("armv7l", "efi", False), ("aarch64", None, True)],
)
def test_firmware_keeps_the_memory_of_small_servers(
    arch: str, firmware: str | None, screen: bool
) -> None:
    guest = make_guest(arch, firmware)
    guest.memory -= 1
    assert consoles.can_show(guest, "virtio") is screen


def test_no_screen_where_qemu_loads_the_kernel() -> None:
    """Nova says efi for these, too, by the image's property."""
    guest = make_guest("aarch64", "efi")
    guest.os_kernel = "/kernel"
    assert not consoles.can_show(guest, None)


def test_a_screen_that_shows_nothing_goes() -> None:
    guest = make_guest("aarch64")
    other = libvirt_config.LibvirtConfigGuestSerial()
    guest.add_device(libvirt_config.LibvirtConfigGuestGraphics())
    guest.add_device(other)
    assert consoles.has_screen(guest)
    consoles.drop_screen(guest)
    assert guest.devices == [other]
    assert not consoles.has_screen(guest)


@pytest.mark.parametrize(
    ("arch", "there", "keyboards"),
    [("armv7l", 0, ["usb"]), ("aarch64", 1, ["virtio"]), ("x86_64", 0, [])],
)
def test_one_keyboard(arch: str, there: int, keyboards: list[str]) -> None:
    guest = make_guest(arch)
    for _ in range(there):
        keyboard = libvirt_config.LibvirtConfigGuestInput()
        keyboard.type, keyboard.bus = "keyboard", "virtio"
        guest.add_device(keyboard)
    consoles.add_keyboard(guest)
    assert [device.bus for device in guest.devices] == keyboards


@pytest.mark.parametrize(
    ("arch", "model", "chosen"),
    [
        ("armv7l", None, "qemu-xhci"),
        ("aarch64", None, "qemu-xhci"),
        ("aarch64", "none", "none"),
        ("aarch64", "nec-xhci", "nec-xhci"),
        ("x86_64", None, None),
    ],
)
def test_the_usb_controller(arch: str, model: str | None, chosen: str | None) -> None:
    guest = make_guest(arch)
    controller = libvirt_config.LibvirtConfigGuestUSBHostController()
    controller.model = model
    guest.add_device(controller)
    consoles.choose_usb_controller(guest)
    assert controller.model == chosen


@pytest.mark.parametrize(("port", "busy"), [(20000, False), (20001, True), (20002, False)])
def test_who_is_connected(port: int, busy: bool) -> None:
    assert consoles.connected(port, SOCKETS) is busy


def test_a_line_that_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    table = SimpleNamespace(read_text=lambda: SOCKETS)
    monkeypatch.setattr(consoles, "SOCKETS", table)
    consoles.check_free(20000)
    with pytest.raises(InstanceNotReady, match="one at a time"):
        consoles.check_free(20001)


def test_a_server_that_is_off() -> None:
    consoles.check_running(True)
    with pytest.raises(InstanceNotReady, match="does not run"):
        consoles.check_running(False)


def test_what_people_read_is_ours() -> None:
    """The API shows format_message(), which is the message only if the class leaves it alone."""
    assert consoles.no_screen().format_message() == consoles.NO_SCREEN
    assert InstanceNotReady(consoles.OFF).format_message() == consoles.OFF
