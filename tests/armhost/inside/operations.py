"""What Nova does to a server that runs; each must leave it alive."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lxml import etree
from nova.compute import power_state
from novakit import NovaKit, Server

PROMPT = "login:"
SECONDS = 60
"""For an answer at the console, in a machine that is emulated."""


def pause(kit: NovaKit, server: Server) -> None:
    kit.driver.pause(server.instance)
    _is(kit, server, power_state.PAUSED)
    kit.driver.unpause(server.instance)


def suspend(kit: NovaKit, server: Server) -> None:
    kit.driver.suspend(kit.context, server.instance)
    _is(kit, server, power_state.SHUTDOWN)
    kit.driver.resume(kit.context, server.instance, server.network_info)


def stop_and_start(kit: NovaKit, server: Server) -> None:
    kit.driver.power_off(server.instance)
    _is(kit, server, power_state.SHUTDOWN)
    kit.driver.power_on(kit.context, server.instance, server.network_info, {})
    kit.wait(server, PROMPT, 4 * SECONDS)


OPERATIONS: Mapping[str, Callable[[NovaKit, Server], None]] = {
    "pause": pause,
    "suspend": suspend,
    "stop and start": stop_and_start,
}


def _is(kit: NovaKit, server: Server, state: int) -> None:
    found = kit.driver.get_info(server.instance, use_cache=False).state
    if found != state:
        raise RuntimeError(f"its state is {found}, not {state}")


def answers(kit: NovaKit, server: Server) -> None:
    """Its login prompt takes a line. QEMU looks once a second whether somebody types."""
    before = server.console.count(PROMPT)
    xml = etree.fromstring(kit.dumpxml(server).encode())
    terminal = os.open(Path(xml.find("devices/serial/source").get("path")), os.O_RDWR | os.O_NOCTTY)
    try:
        end = time.monotonic() + SECONDS
        while server.console.count(PROMPT) == before:
            if time.monotonic() > end:
                raise RuntimeError(f"it does not answer: {server.console[-500:]!r}")
            os.write(terminal, b"\r")
            time.sleep(1)
    finally:
        os.close(terminal)
