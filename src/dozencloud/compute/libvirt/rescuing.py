"""Rescue: a server starts from another image for a while, its own disk beside that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lxml import etree

COMMAND_LINE = "image_os_command_line"
"""Where Nova keeps, with the server, what its image says of the kernel's command line."""


def as_image(instance: Any, properties: Mapping[str, Any]) -> Any:
    """A copy of the server that starts the way of another image: by its kernel, or by firmware.

    Nova would start the server's own kernel, whichever image rescues it, and one without kernel
    could not be rescued by an image with one. properties: the rescue image's, as Glance has them.
    """
    copy = instance.obj_clone()
    copy.kernel_id = properties.get("kernel_id") or ""
    copy.ramdisk_id = properties.get("ramdisk_id") or ""
    own = {key: value for key, value in instance.system_metadata.items() if key != COMMAND_LINE}
    line = properties.get("os_command_line")
    copy.system_metadata = own | ({COMMAND_LINE: line} if line else {})
    return copy


def keep_command_line(guest: Any, instance: Any) -> None:
    """Nova hands a rescue kernel a line for a PC's consoles, and leaves out the image's own."""
    line = instance.image_meta.properties.get("os_command_line")
    if guest.os_kernel and line:
        guest.os_cmdline = line


def firmware_to_keep(old_guest: Any, *, has_kernel: bool) -> Any:
    """The domain whose firmware and variables go on being used; None where there are none.

    Nova copies them from the old domain even if that one had none and the new one needs some.
    """
    started_by_kernel = old_guest is not None and old_guest.os_kernel is not None
    return None if has_kernel or started_by_kernel else old_guest


def on_free_ports(domain: str, free: Callable[[str], int]) -> str:
    """The domain as XML, its serial lines on other ports: its own went when the rescue began.

    free: a port of that address which nobody has.
    """
    root = etree.fromstring(domain.encode())
    ports: dict[tuple[str, str], str] = {}
    for line in root.xpath("./devices/*[self::serial or self::console][@type='tcp']/source"):
        own = (line.get("host"), line.get("service"))
        if own not in ports:
            ports[own] = str(free(own[0]))
        line.set("service", ports[own])
    return str(etree.tostring(root, encoding="unicode"))
