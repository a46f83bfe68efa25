"""Servers that QEMU stopped because the host's disk was full go on when there is room.

QEMU stops a guest whose write finds no room (werror=enospc), so that nothing is lost, and waits to
be told to go on, which Nova never does. To Nova such a server runs.
"""

from __future__ import annotations

import logging
from typing import Any

import libvirt

WAITING = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]
log = logging.getLogger(__name__)


def waits(connection: Any, server: str) -> bool:
    """Whether the server of that UUID was stopped so."""
    try:
        return bool(connection.lookupByUUIDString(server).state() == WAITING)
    except libvirt.libvirtError:  # it was just deleted
        return False


def go_on(connection: Any) -> list[str]:
    """Resume what waits for room; names of the domains. One that finds none is stopped again."""
    resumed = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED):
        try:
            if domain.state() == WAITING:
                domain.resume()
                resumed.append(domain.name())
        except libvirt.libvirtError as error:  # it was just deleted
            log.warning("a server that waits for its disk cannot go on: %s", error)
    if resumed:
        log.warning("stopped by an error of the disk, resumed: %s", ", ".join(resumed))
    return resumed
