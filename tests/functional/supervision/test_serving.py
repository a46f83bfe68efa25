"""`supervision/serve.py` as the supervisor runs it: uploads, stopping, who may connect."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from dozencloud.supervision.ready import http_status

pytestmark = pytest.mark.functional

APPLICATION = """
import hashlib, os, threading, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/v2/images/x/file":
        seen, size = hashlib.sha256(), 0
        while part := environ["wsgi.input"].read(65536):
            seen.update(part)
            size += len(part)
        answer = f"{size} {seen.hexdigest()}"
    elif path == "/slow":
        time.sleep(0.5)
        answer = "slow"
    elif path == "/broken":
        raise ValueError("broken")
    else:
        keys = ("SCRIPT_NAME", "PATH_INFO", "wsgi.url_scheme")
        answer = " ".join(environ[key] for key in keys)
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer.encode()]

def main():
    import sys
    print(sys.argv, flush=True)
    return 3
"""

Start = Callable[[], "Server"]


IMAGE_DATA = "/image/v2/images/x/file"


class Server:
    def __init__(self, folder: Path) -> None:
        (folder / "tiny_application.py").write_text(APPLICATION)
        self.path = folder / "api.sock"
        words = ["-P", "-m", "dozencloud.supervision.serve", "wsgi", "tiny_application:application"]
        search = os.pathsep.join([str(folder), *filter(None, sys.path)])
        self.process = subprocess.Popen(
            [sys.executable, *words, str(self.path), "/image", "4"],
            env={"PYTHONPATH": search, "PATH": os.environ["PATH"]},
            stderr=subprocess.PIPE,
        )
        end = time.monotonic() + 15
        while http_status(self.path, "/") != 200:
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(str(self.path))
        return client

    def stop(self) -> float:
        """Seconds from SIGTERM to the end, which must be a good one."""
        started = time.monotonic()
        self.process.terminate()
        assert self.process.wait(20) == 0
        return time.monotonic() - started


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="dz") as folder:
        made = Server(Path(folder))
        yield made
        made.process.kill()
        made.process.communicate()


def answer(client: socket.socket) -> tuple[int, str]:
    response = HTTPResponse(client)
    response.begin()
    return response.status, response.read().decode()


def test_a_chunked_upload_of_large_parts_arrives_whole(server: Server) -> None:
    """uwsgi refused parts above 1 MiB; glanceclient and the SDK send larger ones."""
    head = f"PUT {IMAGE_DATA} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    parts = [os.urandom(4 << 20) for _ in range(3)] + [b"end"]
    with server.connect() as client:
        for _ in range(2):  # the second on the same connection
            client.sendall(head)
            for part in parts:
                client.sendall(b"%x\r\n" % len(part) + part + b"\r\n")
            client.sendall(b"0\r\n\r\n")
            whole = b"".join(parts)
            wanted = f"{len(whole)} {hashlib.sha256(whole).hexdigest()}"
            assert answer(client) == (200, wanted)


def test_a_plain_upload_arrives_whole(server: Server) -> None:
    whole = os.urandom(9 << 20)
    with server.connect() as client:
        head = f"PUT {IMAGE_DATA} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(whole)}\r\n\r\n"
        client.sendall(head.encode() + whole)
        assert answer(client) == (200, f"{len(whole)} {hashlib.sha256(whole).hexdigest()}")


@pytest.mark.parametrize(
    ("asked", "head", "told"),
    [
        ("/image/v2/x", "", "/image /v2/x http"),
        ("/image", "", "/image / http"),
        ("/other", "", " /other http"),
        ("/image/x", "X-Forwarded-Proto: https\r\n", "/image /x https"),
    ],
)
def test_path_and_scheme(server: Server, asked: str, head: str, told: str) -> None:
    with server.connect() as client:
        client.sendall(f"GET {asked} HTTP/1.1\r\nHost: h\r\n{head}\r\n".encode())
        assert answer(client) == (200, told)


def test_a_broken_request_ends_no_server(server: Server) -> None:
    assert http_status(server.path, "/image/broken") == 500
    assert http_status(server.path, "/image/") == 200


def test_only_owner_and_group_may_connect(server: Server) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) & 0o007 == 0


def test_sigterm_ends_it_soon(server: Server) -> None:
    assert server.stop() < 2


def test_sigterm_ends_it_soon_with_idle_connections(server: Server) -> None:
    """nginx keeps connections open; none of them may hold the end up."""
    clients = [server.connect() for _ in range(6)]
    for client in clients[:3]:
        client.sendall(b"GET /image/ HTTP/1.1\r\nHost: h\r\n\r\n")
        assert answer(client)[0] == 200
    assert server.stop() < 2
    for client in clients:
        client.close()


def test_a_request_under_way_is_answered(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET /image/slow HTTP/1.1\r\nHost: h\r\n\r\n")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        assert answer(client) == (200, "slow")
    assert server.process.wait(5) == 0


def test_a_socket_left_by_a_killed_one_is_taken_over(server: Server) -> None:
    server.process.kill()
    server.process.wait()
    assert server.path.exists()
    successor = Server(server.path.parent)
    assert successor.stop() < 2


def test_a_script_gets_its_arguments_and_its_temporary_folder_cleaned(tmp_path: Path) -> None:
    (tmp_path / "tiny_application.py").write_text(APPLICATION)
    stray, other = tmp_path / "neutron_start_time17", tmp_path / "kept"
    stray.touch()
    other.touch()
    words = [
        "-P",
        "-m",
        "dozencloud.supervision.serve",
        "main",
        "tiny_application:main",
        "--a",
        "b c",
    ]
    search = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, *words],
        env={"PYTHONPATH": search, "TMPDIR": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout == "['tiny_application', '--a', 'b c']\n"
    assert not stray.exists()
    assert other.exists()
