"""gdb on a server, seen by its user: ask for it by Nova's API, carry gdb's bytes.

The other side is dozencloud.compute.debugging.session, inside nova-compute.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join, quote
from typing import Any

from dozencloud.access.client import open_socket, trust
from dozencloud.compute.debugging.gdbrequest import KEY, DebugRequest
from dozencloud.errors import Problem

NOT_IMPLEMENTED = 501  # HTTP
START_SECONDS = 180
REMOTE_SECONDS = 60
"""gdb gives the tunnel 2 s otherwise."""
PIECE = 64 * 1024  # bytes


def open_stub(sdk: Any, server: Any, minutes: int) -> None:
    """Open the running server for gdb."""
    need_status(server, "ACTIVE", "PAUSED")
    ask(sdk, server, DebugRequest(minutes))
    if not console(sdk, server):
        raise Problem(
            f"The server {server.name} cannot be debugged: its host offers no gdb connection.",
            "Containers have none; for a virtual machine see: sudo ./dozen logs nova-compute",
        )


def open_at_start(sdk: Any, server: Any, minutes: int) -> None:
    """Start the server, anew if it runs, and hold it before its first instruction."""
    from openstack.exceptions import SDKException

    need_status(server, "ACTIVE", "PAUSED", "SHUTOFF")
    ask(sdk, server, DebugRequest(minutes, at_start=True))
    try:
        if server.status == "SHUTOFF":
            sdk.compute.start_server(server)
        else:
            sdk.compute.reboot_server(server, "HARD")
        started = sdk.compute.get_server(server.id)
        sdk.compute.wait_for_server(started, interval=0.5, wait=START_SECONDS)
    except SDKException as error:
        sdk.compute.delete_server_metadata(server, [KEY])
        raise Problem(
            f"The server {server.name} did not start: {error}",
            f"See: openstack server show {server.id}",
        ) from error
    if not console(sdk, server):
        raise Problem(
            f"The server {server.name} started, but its host did not hold it for gdb.",
            "Containers cannot be held; for a virtual machine see: sudo ./dozen logs nova-compute",
        )


def close_stub(sdk: Any, server: Any) -> None:
    """Cut gdb off and let the server run."""
    need_status(server, "ACTIVE", "PAUSED")
    ask(sdk, server, DebugRequest(0))
    console(sdk, server)


def need_status(server: Any, *good: str) -> None:
    """Problem unless the server is in one of these states."""
    if server.status not in good:
        raise Problem(
            f"The server {server.name} is {server.status}; gdb needs one that runs.",
            f"Start it: openstack server start {server.id}, or hold it at its first "
            f"instruction: dozen debug --stop-at-start {server.id}"
            if server.status == "SHUTOFF"
            else f"See: openstack server show {server.id}",
        )


def ask(sdk: Any, server: Any, request: DebugRequest) -> None:
    """Leave the request where the server's host finds it."""
    from openstack.exceptions import ConflictException, ForbiddenException

    try:
        sdk.compute.set_server_metadata(server, **{KEY: str(request)})
    except ForbiddenException as error:
        raise Problem(
            f"You may see the server {server.name}, but not debug it: that takes the role member "
            "in its project.",
        ) from error
    except ConflictException as error:
        raise Problem(
            f"The server {server.name} is busy or locked: {error.details or error}",
            "Try again when it is not.",
        ) from error


def console(sdk: Any, server: Any) -> str:
    """Address of the server's gdb connection, good for one connection; empty if it is closed."""
    from openstack.exceptions import BadRequestException, HttpException

    try:
        answer = sdk.compute.create_server_remote_console(server, protocol="mks", type="webmks")
    except BadRequestException:
        return ""
    except HttpException as error:
        if error.status_code == NOT_IMPLEMENTED:
            return ""
        raise
    return str(answer.url)


def pipe(sdk: Any, server: Any) -> None:
    """Carry gdb's bytes between standard input and output and the server, until one side ends."""
    from websockets.exceptions import ConnectionClosed

    url = console(sdk, server)
    if not url:
        raise Problem(
            f"The server {server.name} is not open for gdb.", f"Run: dozen debug {server.id}"
        )
    # Ctrl-C in gdb interrupts the server, not the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    socket = open_socket(url.replace("https://", "wss://", 1), trust(sdk))
    heard = False
    with socket:
        threading.Thread(target=_send, args=(socket,), daemon=True).start()
        try:
            for data in socket:
                heard = True
                os.write(1, data.encode() if isinstance(data, str) else data)
        except (ConnectionClosed, BrokenPipeError):
            pass
    if not heard:
        raise Problem(
            f"The server {server.name} closed the connection.",
            "Another gdb may be connected; `dozen debug --close` ends that.",
        )


def _send(socket: Any) -> None:
    from websockets.exceptions import ConnectionClosed

    try:
        while data := os.read(0, PIECE):
            socket.send(data)
    except ConnectionClosed:
        return
    socket.close()


def program(environment: Mapping[str, str], root: Path | None) -> list[str]:
    """How gdb starts this program again."""
    checkout = environment.get("DOZEN_CHECKOUT")
    start = [str(Path(checkout, "dozen"))] if checkout else [sys.executable, "-m", "dozencloud"]
    return [*start, *(("--root", str(root)) if root else ())]


def gdb_command(server: str, program: Sequence[str], *, sudo: bool) -> str:
    """What to type to debug the server with that id."""
    tunnel = join([*program, "debug", "--pipe", server])
    words = ["sudo"] if sudo else []
    words += ["gdb-multiarch", "-ex", f"set remotetimeout {REMOTE_SECONDS}"]
    return " ".join(map(quote, [*words, "-ex", f"target remote | {tunnel}"]))


def until(minutes: int) -> str:
    """The time of day at which it closes."""
    return time.strftime("%H:%M", time.localtime(time.time() + minutes * 60))
