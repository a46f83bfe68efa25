"""The serial console of a server in this terminal, through the gateway."""

from __future__ import annotations

import os
import select
import ssl
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dozencloud.access.client import find_server, open_socket
from dozencloud.errors import Problem

ESCAPE = b"\x1d"
"""Ctrl-] ends the connection, as in telnet and `virsh console`."""
PIECE = 4096


def address(sdk: Any, name: str) -> str:
    """WebSocket address of the serial console, good for one server and ten minutes."""
    from openstack.exceptions import HttpException

    server = find_server(sdk, name)
    try:
        return str(sdk.compute.create_console(server, "serial")["url"])
    except HttpException as error:
        raise Problem(f"{name}: {error.details or error}") from error


def page(url: str) -> str:
    """Address of the page that shows it in a browser."""
    base, _, token = url.partition("/socket?")
    return f"https://{base.removeprefix('wss://')}/#{token}"


@contextmanager
def raw(terminal: int) -> Iterator[None]:
    """Every key goes to the server, Ctrl-C too."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def need_terminal() -> None:
    """Problem if there is no keyboard."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Problem(
            "This is not a terminal, and a console needs one.",
            "To read only: openstack console log show SERVER. For a browser: dozen console --url",
        )


def attach(url: str, context: ssl.SSLContext) -> None:
    """Connect this terminal with the console until Ctrl-] or until the server ends it."""
    from websockets.exceptions import ConnectionClosed, WebSocketException

    try:
        socket = open_socket(url, context)
    except (OSError, WebSocketException) as error:
        raise Problem(
            f"The gateway does not let us to the console: {error}.", "See: dozen status"
        ) from error
    ended, end = os.pipe()
    heard = threading.Event()

    def show() -> None:
        with suppress(ConnectionClosed):
            for piece in socket:
                heard.set()
                os.write(1, piece.encode() if isinstance(piece, str) else piece)
        os.close(end)

    keyboard = sys.stdin.fileno()
    with socket, raw(keyboard):
        threading.Thread(target=show, daemon=True).start()
        while True:
            ready, _, _ = select.select([keyboard, ended], [], [])
            if ended in ready:
                break
            keys, escape, _ = os.read(keyboard, PIECE).partition(ESCAPE)
            with suppress(ConnectionClosed):
                socket.send(keys)
            if escape:
                return
    if not heard.is_set():
        raise Problem(
            "The console hung up at once.",
            "Somebody else may have it open; or the server went off. Try again.",
        )
    raise Problem("The server has ended the connection.", "See: openstack server show")
