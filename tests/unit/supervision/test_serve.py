"""A request must not leave anything behind on a connection that others use after it."""

from __future__ import annotations

import resource
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cheroot import wsgi

from dozencloud.supervision.serve import behind_gateway

START = Callable[..., Any]


def ignores(environ: dict[str, Any], start: START) -> Iterable[bytes]:
    """Answers without a look at the body, as a service does that refuses a token."""
    start("401 Unauthorized", [("Content-Length", "2")])
    return [b"no"]


def closes(environ: dict[str, Any], start: START) -> Iterable[bytes]:
    """Reads the body and closes it, as Glance does."""
    length = len(environ["wsgi.input"].read())
    environ["wsgi.input"].close()
    text = str(length).encode()
    start("200 OK", [("Content-Length", str(len(text)))])
    return [text]


def path(environ: dict[str, Any], start: START) -> Iterable[bytes]:
    text = f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()
    start("200 OK", [("Content-Length", str(len(text)))])
    return [text]


@contextmanager
def served(application: Any) -> Iterator[socket.socket]:
    """One connection to a server of the application."""
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder, "api.sock"))
        server = wsgi.Server(place, behind_gateway(application, "/image"), numthreads=1)
        server.prepare()
        threading.Thread(target=server.serve, daemon=True).start()
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(place)
                yield client
        finally:
            server.stop()


def ask(client: socket.socket, request: bytes) -> tuple[int, bytes]:
    client.sendall(request)
    response = HTTPResponse(client)
    response.begin()
    return response.status, response.read()


CHUNKED = b"PUT /image/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /image/secret HTTP/1.1\r\nHost: h\r\n\r\n"
BODIES = {
    "chunked": CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
    "trailer": CHUNKED + b"%x\r\n%s\r\n0\r\nX-End: 1\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
    "length": b"PUT /image/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s"
    % (len(SMUGGLED), SMUGGLED),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_was_not_read_is_not_the_next_request(body: bytes) -> None:
    with served(ignores) as client:
        for _ in range(3):
            assert ask(client, body) == (401, b"no")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_closed_body_leaves_the_connection_open(body: bytes) -> None:
    with served(closes) as client:
        for _ in range(3):
            assert ask(client, body) == (200, str(len(SMUGGLED)).encode())


def test_the_prefix_is_the_application_and_the_rest_its_path() -> None:
    with served(path) as client:
        assert ask(client, SMUGGLED) == (200, b"/image /secret")
        assert ask(client, SMUGGLED.replace(b"/secret", b"")) == (200, b"/image /")


def _most_pages(deepest: int = 300, calls: int = 1000) -> int:
    """Pages that a loop of calls had to be given, at the depth where these are most."""

    def leaf(*values: object) -> object:
        return values

    def at(depth: int) -> None:
        if depth:
            return at(depth - 1)
        for _ in range(calls):
            leaf(1, 2, 3)
        return None

    def pages(depth: int) -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        at(depth)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    return max(map(pages, range(deepest)))


def test_no_depth_of_calls_is_slow() -> None:
    counted: list[int] = []

    def application(environ: dict[str, Any], start: START) -> list[bytes]:
        counted.append(_most_pages())
        return []

    served = behind_gateway(application, "")
    environ = {"PATH_INFO": "/", "wsgi.input": BytesIO()}
    with ThreadPoolExecutor(1) as thread:
        thread.submit(served, environ, print).result()
    assert counted[0] < 100
