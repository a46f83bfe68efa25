"""Runs one upstream Python service in this process: a WSGI application or a console script.

    python -m dozencloud.supervision.serve wsgi dozencloud.hooks.keystone:application
        SOCKET PREFIX THREADS [LANE_SOCKET LANE_THREADS WRAPPER]
    python -m dozencloud.supervision.serve main nova.cmd.conductor:main [ARGUMENT ...]

With preloading, the supervisor forks itself and calls `main` instead of executing Python anew.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import setproctitle

from dozencloud import legible
from dozencloud.supervision import guard

STOP_SECONDS = 1
BACKLOG = 512
"""Connections that wait to be taken; one more, and the gateway says that the service is away."""
M_ARENA_MAX = -8  # mallopt(3)
ARENAS = 2
TRIM_SECONDS = 30
ROOM = 8300  # pointers: a little more than 64 KiB
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def name_process(*words: str) -> None:
    """Name this process for `ps` and `top`, which show the first 15 bytes of the first word."""
    # Its title has the room of the command line only: behind that is the environment, by which a
    # cloud's processes are found. A fork's is its parent's (proc(5)).
    os.environ["SPT_NOENV"] = "1"
    setproctitle.setproctitle(" ".join(words))
    setproctitle.setthreadtitle(words[0])


def return_memory() -> None:
    """Have what a burst of requests takes go back to the kernel when it is over.

    glibc makes an arena for each thread and keeps what is freed in them, also large blocks once one
    was freed (mallopt(3), M_MMAP_THRESHOLD); malloc_trim(3) gives back all whole pages that are
    free. Other C libraries have no such calls, and no need.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return
    libc.mallopt(M_ARENA_MAX, ARENAS)

    def trim() -> None:
        while True:
            time.sleep(TRIM_SECONDS)
            libc.malloc_trim(0)

    threading.Thread(target=trim, name="trim", daemon=True).start()


def with_room(function: Application) -> Application:
    """A plain function; the frames of Python that it calls are all in one block of memory.

    They are in blocks of 16 KiB else, and a loop that calls across the end of one has the kernel
    map and unmap the next at each call: 1500 times for one list of networks, a third of its time
    (https://github.com/python/cpython/issues/142183). A frame that does not fit gets a block of
    the next power of two, whose other half is then there for the frames after it. Pages that nobody
    touches cost nothing.
    """
    plain = cast(FunctionType, function)
    plain.__code__ = plain.__code__.replace(co_stacksize=ROOM)
    return function


def main(arguments: list[str]) -> None:
    """Run what the command line names; returns when the service ends."""
    name = os.environ.get("SUPERVISOR_PROCESS_NAME", "")
    if name:
        name_process(name)
    if folder := os.environ.get("TMPDIR"):
        # Neutron leaves files there that are keyed by its parent's pid and mean "I am not the
        # first worker" to its successor (neutron/common/wsgi_utils.py).
        for path in Path(folder).glob("neutron_*"):
            path.unlink()
    logging.setLogRecordFactory(legible.Record)
    guard.speak_of_anything()
    kind, target, *rest = arguments
    if kind == "wsgi":
        socket, prefix, threads, *lane = rest
        serve_wsgi(target, Path(socket), prefix, int(threads), lane)
    else:
        module, _, function = target.partition(":")
        # Parents of several workers call themselves and these after it, too (cotyledon).
        sys.argv = [name or module.rpartition(".")[2], *rest]
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


def behind_gateway(application: Application, prefix: str, drain: bool = True) -> Application:
    """The application below `prefix`, with the scheme that the gateway was asked by.

    The socket is the gateway's alone, so X-Forwarded-Proto can be trusted. PEP 3333: SCRIPT_NAME
    is the part of the path that belongs to the application, PATH_INFO the rest.

    drain: what the application leaves unread of a body is read, for the next request. Where there
    is none, nobody waits for the rest of it.
    """

    @with_room
    def inner(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if prefix and path.startswith(prefix):
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = prefix, path[len(prefix) :] or "/"
        environ["wsgi.url_scheme"] = environ.get("HTTP_X_FORWARDED_PROTO", "http")
        body = environ["wsgi.input"] = Body(environ["wsgi.input"])
        response = application(environ, start_response)
        if drain:
            body.drain()
        return response

    return inner


class OwnThreads:
    """A thread for each connection, up to a limit; what cheroot expects in place of its pool.

    For requests that wait rather than work: those of a slow client, those in a queue.
    """

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most)

    def start(self) -> None:
        """Nothing is made beforehand."""

    def stop(self, timeout: float | None = None) -> None:
        """The process ends with its threads."""

    def put(self, connection: Any) -> None:
        """Serve it. Raises queue.Full at the limit; cheroot then answers 503."""
        if not self._free.acquire(blocking=False):
            raise queue.Full
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Any) -> None:
        try:
            # The gateway opens a new one for each request.
            connection.communicate()
        finally:
            self._free.release()
            connection.close()


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _server(path: Path, application: Application, threads: int, name: str) -> Any:
    from cheroot import wsgi

    path.unlink(missing_ok=True)
    server = wsgi.Server(
        str(path),
        application,
        numthreads=threads,
        request_queue_size=BACKLOG,
        timeout=60,
        shutdown_timeout=STOP_SECONDS,
    )
    server.max_request_header_size = 64 * 1024
    server.server_name = name
    return server


def serve_wsgi(
    target: str, socket: Path, prefix: str, threads: int, lane: Sequence[str] = ()
) -> None:
    """Serve `module:application` on a Unix socket that root and the gateway may use.

    lane: a second socket, for requests that must not hold those of the first up; how many threads
    it may have; and what is put around the application there (`module:function`), or "".
    """
    module = target.partition(":")[0].partition(".")[0]
    sys.argv = [module + "-api"]
    return_memory()
    application = guard.guarded(_load(target), prefix)

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    os.umask(0o007)
    server = _server(socket, behind_gateway(application, prefix), threads, module)
    if lane:
        path, most, wrapper = lane
        inside = _load(wrapper)(application) if wrapper else application
        beside = _server(Path(path), behind_gateway(inside, prefix, drain=False), 1, module)
        beside.requests = OwnThreads(int(most))
        beside.prepare()
        threading.Thread(target=beside.serve, name="lane", daemon=True).start()
    try:
        server.start()
    except KeyboardInterrupt:
        _end(server)


def _end(server: Any) -> None:
    """End this process, and the server as far as that takes no longer than `STOP_SECONDS`."""
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
