"""The consoles of a server: which kinds have a screen, and whether a serial line is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nova.conf
from nova.exception import ConsoleTypeUnavailable, InstanceNotReady
from nova.virt.libvirt import config as libvirt_config
from oslo_config import cfg
from oslo_utils import units

from dozencloud.compute.abilities import ARM, X86

CONF = nova.conf.CONF
CONF.register_opts(
    [
        cfg.StrOpt(
            "console_address",
            help="Address of this node's gate for consoles; empty: the proxy is on this machine.",
        )
    ],
    "dozencloud",
)
SOCKETS = Path("/proc/self/net/tcp")
ESTABLISHED = "01"  # include/net/tcp_states.h
# USB 3; libvirt's choice for ARMv7 is a controller of the PC.
USB_CONTROLLER = "qemu-xhci"
SCREEN_MEMORY = 512 * units.Ki
"""KiB. In 256 MiB, firmware with a screen has no room for an initrd of 28 MiB; without, it has."""
NO_SCREEN = (
    "This server has no screen: only servers that boot with UEFI and have 512 MiB have one, and "
    "those without UEFI whose image sets hw_video_model. Its serial console is there: "
    "openstack console url show --serial"
)
OFF = "This server does not run, so it has no console. Start it first: openstack server start"
IN_USE = "Somebody is at the serial console of this server, which takes one at a time."


def reachable(console: Any) -> Any:
    """The console, at the address where the proxy reaches it."""
    if CONF.dozencloud.console_address:
        console.host = CONF.dozencloud.console_address
    return console


def can_show(guest: Any, model: str | None) -> bool:
    """Whether anything would appear on a screen of this guest.

    UEFI draws on it until the kernel does; without firmware only the kernel could, and small ones
    cannot. model: hw_video_model of the image, which settles it where there is memory for both.
    """
    by_uefi = guest.os_firmware == "efi" and not guest.os_kernel
    if by_uefi and guest.os_arch in ARM and guest.memory < SCREEN_MEMORY:
        return False
    if model:
        return model != "none"
    return guest.os_arch in X86 or (guest.os_arch in ARM and by_uefi)


def has_screen(guest: Any) -> bool:
    """Whether the guest has one so far."""
    return any(
        isinstance(device, libvirt_config.LibvirtConfigGuestGraphics) for device in guest.devices
    )


def drop_screen(guest: Any) -> None:
    """Take away what Nova gives to every guest."""
    guest.devices = [
        device
        for device in guest.devices
        if not isinstance(device, libvirt_config.LibvirtConfigGuestGraphics)
    ]


def add_keyboard(guest: Any) -> None:
    """A USB keyboard for an ARM guest that has none; Nova gives one to AArch64 guests only."""
    there = any(
        isinstance(device, libvirt_config.LibvirtConfigGuestInput) and device.type == "keyboard"
        for device in guest.devices
    )
    if guest.os_arch in ARM and not there:
        keyboard = libvirt_config.LibvirtConfigGuestInput()
        keyboard.type, keyboard.bus = "keyboard", "usb"
        guest.add_device(keyboard)


def choose_usb_controller(guest: Any) -> None:
    """Name the model that an ARM guest's USB devices are on."""
    for device in guest.devices:
        if (
            guest.os_arch in ARM
            and isinstance(device, libvirt_config.LibvirtConfigGuestUSBHostController)
            and device.model is None
        ):
            device.model = USB_CONTROLLER


def connected(port: int, sockets: str) -> bool:
    """Whether somebody is connected to the local port. sockets: content of /proc/net/tcp."""
    for line in sockets.splitlines()[1:]:
        local, _, state = line.split()[1:4]
        if state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
            return True
    return False


def check_running(running: bool) -> None:
    """Refuse the console of a server that is off."""
    if not running:
        raise InstanceNotReady(OFF)


def check_free(port: int) -> None:
    """Refuse a serial line that somebody has; QEMU would let a second one wait in silence.

    The console proxy asks this, too, before it lets anybody in.
    """
    if connected(port, SOCKETS.read_text()):
        raise InstanceNotReady(IN_USE)


def no_screen() -> ConsoleTypeUnavailable:
    return ConsoleTypeUnavailable(NO_SCREEN)
