"""Runs one upstream Python service in this process: a WSGI application or a console script.

    python -m dozencloud.serve wsgi dozencloud.keystoneapi:application SOCKET PREFIX THREADS
    python -m dozencloud.serve main nova.cmd.conductor:main [ARGUMENT ...]

With preloading, the supervisor forks itself and calls `main` instead of executing Python anew.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dozencloud import guard

STOP_SECONDS = 1
PR_SET_NAME = 15  # prctl(2)
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def name_process(name: str) -> None:
    """Name a forked process for `ps -o comm` and `top`: 15 bytes count.

    Its command line stays the parent's: writing a title there (setproctitle) would overwrite the
    environment behind it, by which a cloud's processes are found.
    """
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def main(arguments: list[str]) -> None:
    """Run what the command line names; returns when the service ends."""
    if folder := os.environ.get("TMPDIR"):
        # Neutron leaves files there that are keyed by its parent's pid and mean "I am not the
        # first worker" to its successor (neutron/common/wsgi_utils.py).
        for path in Path(folder).glob("neutron_*"):
            path.unlink()
    guard.speak_of_anything()
    kind, target, *rest = arguments
    if kind == "wsgi":
        socket, prefix, threads = rest
        serve_wsgi(target, Path(socket), prefix, int(threads))
    else:
        module, _, function = target.partition(":")
        sys.argv = [module.rpartition(".")[2], *rest]
        sys.exit(getattr(importlib.import_module(module), function)())


class Body:
    """What an application may read of a request (wsgi.input): all of it, but not close it.

    The gateway keeps its connections for the next request, of whichever user. What one left unread
    would be taken for that next request; and with the body cheroot closes the connection itself.
    """

    PIECE = 64 * 1024  # bytes

    def __init__(self, file: Any) -> None:
        self._file = file
        self.read, self.readline, self.readlines = file.read, file.readline, file.readlines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def close(self) -> None:
        """Leave the connection open."""

    def drain(self) -> None:
        """Read what is left."""
        while self.read(self.PIECE):
            pass
        if trailers := getattr(self._file, "read_trailer_lines", None):
            for _ in trailers():
                pass


def behind_gateway(application: Application, prefix: str) -> Application:
    """The application below `prefix`, with the scheme that the gateway was asked by.

    The socket is the gateway's alone, so X-Forwarded-Proto can be trusted. PEP 3333: SCRIPT_NAME
    is the part of the path that belongs to the application, PATH_INFO the rest.
    """

    def inner(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if prefix and path.startswith(prefix):
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = prefix, path[len(prefix) :] or "/"
        environ["wsgi.url_scheme"] = environ.get("HTTP_X_FORWARDED_PROTO", "http")
        body = environ["wsgi.input"] = Body(environ["wsgi.input"])
        response = application(environ, start_response)
        body.drain()
        return response

    return inner


def serve_wsgi(target: str, socket: Path, prefix: str, threads: int) -> None:
    """Serve `module:application` on a Unix socket that root and the gateway may use."""
    from cheroot import wsgi

    module, _, name = target.partition(":")
    sys.argv = [module.partition(".")[0] + "-api"]
    application = getattr(importlib.import_module(module), name)
    socket.unlink(missing_ok=True)
    server = wsgi.Server(
        str(socket),
        behind_gateway(guard.guarded(application, prefix), prefix),
        numthreads=threads,
        request_queue_size=128,
        timeout=60,
        shutdown_timeout=STOP_SECONDS,
    )
    server.max_request_header_size = 64 * 1024
    server.server_name = module.partition(".")[0]

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    os.umask(0o007)
    try:
        server.start()
    except KeyboardInterrupt:
        # cheroot joins its workers without a limit, and one that waits on a connection that the
        # gateway keeps open does not end. Requests under way have had their time by then.
        ending = threading.Thread(target=server.stop, daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
