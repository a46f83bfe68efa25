"""What is a request for metadata, and whose it is."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dozencloud.hooks import metadata
from dozencloud.hooks.metadata import BODY, HEAD, Answer, Incoming, MetadataRequest, Refused

GET = b"GET /x HTTP/1.1\r\n\r\n"


def proxied(address: str, *, command: int = 0x21) -> bytes:
    """What haproxy says first (PROXY protocol, version 2)."""
    packed = ip_address(address).packed
    family = 0x11 if len(packed) == 4 else 0x21
    body = packed * 2 + struct.pack("!HH", 1, 80)
    return struct.pack("!12sBBH", metadata.SIGNATURE, command, family, len(body)) + body


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def read(pair: tuple[socket.socket, socket.socket], *pieces: bytes) -> MetadataRequest:
    ours, theirs = pair

    def write() -> None:
        for piece in pieces:
            theirs.sendall(piece)
        theirs.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return metadata.request(Incoming(ours))
    finally:
        writer.join()


def test_a_head_is_read_to_its_end(pair: tuple[socket.socket, socket.socket]) -> None:
    """In as many pieces as it comes."""
    lines = b"".join(b"X-%d: %s\r\n" % (n, b"p" * 1000) for n in range(15))
    made = read(
        pair, b"POST /a?b=c HTTP/1.0\r\n", lines, b"Content-Le", b"ngth: 5\r\n\r", b"\nhel", b"lo"
    )
    assert made == MetadataRequest("POST", "/a?b=c", "", b"hello")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET  /x HTTP/1.1\r\n\r\n", 400),
        (b"get /x HTTP/1.1\r\n\r\n", 400),
        (b"GET /x HTTP/2.0\r\n\r\n", 400),
        (b"GET http://host/x HTTP/1.1\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT host:80 HTTP/1.1\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nA: b\nC: d\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\n: b\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"GET /x HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", 400),
        (b"GET /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nx", 400),
        (b"GET /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY + 1), 413),
        (b"GET /x HTTP/1.1\r\nA: " + b"b" * HEAD + b"\r\n\r\n", 431),
        (b"GET /x HTTP/1.1\r\n", 400),
        (b"", 400),
    ],
)
def test_what_could_be_understood_in_two_ways_is_refused(
    pair: tuple[socket.socket, socket.socket], request_: bytes, status: int
) -> None:
    with pytest.raises(Refused) as refused:
        read(pair, request_)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (proxied("10.0.0.9"), "10.0.0.9"),
        (proxied("fe80::f816:3eff:fe00:1"), "fe80::f816:3eff:fe00:1"),
        (proxied("::ffff:10.0.0.9"), "10.0.0.9"),
    ],
)
def test_haproxy_says_who_asks(said: bytes, known: str, pair: Any) -> None:
    ours, theirs = pair
    theirs.sendall(said + GET)
    incoming = Incoming(ours)
    assert metadata.source(incoming) == ip_address(known)
    assert metadata.request(incoming).target == "/x"


@pytest.mark.parametrize(
    "said",
    [
        GET + b"X-Forwarded-For: 10.0.0.9\r\n\r\n",
        proxied("10.0.0.9", command=0x20),  # haproxy's own check
        b"PROXY TCP4 10.0.0.9 169.254.169.254 1 80\r\n" + GET,
        metadata.SIGNATURE + b"\x21\x31\x00\x0c" + b"x" * 12,
        metadata.SIGNATURE + b"\x21\x11\x00\x04" + b"x" * 12,
    ],
)
def test_nobody_is_believed_without(said: bytes, pair: Any) -> None:
    ours, theirs = pair
    theirs.sendall(said)
    with pytest.raises(Refused, match="does not say who asks"):
        metadata.source(Incoming(ours))


def test_who_says_nothing_waits_for_nobody(pair: Any) -> None:
    with pytest.raises((Refused, TimeoutError)):
        metadata.request(Incoming(pair[0], seconds=0.05))


ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="its service is root")


@ROOT_ONLY
def test_the_answer_goes_on_as_it_is(pair: Any) -> None:
    ours, theirs = pair
    body = bytes(range(256))
    asked: list[tuple[str, Any, MetadataRequest]] = []

    def answering(network: str, address: Any, request: MetadataRequest) -> Answer:
        asked.append((network, address, request))
        return Answer(200, "OK", "application/octet-stream", body, len(body))

    theirs.sendall(
        proxied("10.0.0.9") + b"GET /x HTTP/1.1\r\nX-OVN-Network-ID: theirs\r\n\r\n" + GET
    )
    metadata.serve(ours, "ours", answering)
    said = b"".join(iter(lambda: theirs.recv(4096), b""))
    assert said.endswith(b"\r\nContent-Length: 256\r\nConnection: close\r\n\r\n" + body)
    assert asked == [("ours", ip_address("10.0.0.9"), MetadataRequest("GET", "/x", "", b""))]


@ROOT_ONLY
def test_each_network_has_a_door_of_its_own(tmp_path: Path) -> None:
    def answering(network: str, _address: Any, _request: MetadataRequest) -> Answer:
        return Answer(200, "OK", "text/plain", network.encode(), len(network))

    doors = metadata.Doors(tmp_path, -1, answering)
    threading.Thread(target=doors.run, daemon=True).start()
    for network in ("one", "two", "one"):
        doors.open(network)
    for network in ("one", "two"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / network / doors.NAME))
            client.sendall(proxied("10.0.0.9") + GET)
            client.settimeout(5)
            said = b"".join(iter(lambda client=client: client.recv(4096), b""))  # type: ignore[misc]
        assert said.endswith(network.encode())
    assert ((tmp_path / "one").stat().st_mode & 0o777) == 0o710
    doors.close("one")
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


def test_an_address_belongs_to_one_port_or_to_nobody() -> None:
    known = {"neutron:device_id": "server", "neutron:project_id": "project"}
    found: list[Any] = []
    asked: list[Any] = []

    def ports(network: str, address: str, mac: str | None) -> list[Any]:
        asked.append((network, address, mac))
        return found

    idl = SimpleNamespace(get_network_port_bindings_by_ip=ports)
    for number in (0, 2):
        found[:] = [SimpleNamespace(external_ids=known)] * number
        with pytest.raises(Refused):
            metadata.owner(idl, "net", ip_address("10.0.0.9"))
    found[:] = [SimpleNamespace(external_ids=known)]
    assert metadata.owner(idl, "net", ip_address("10.0.0.9")) == ("server", "project")
    link_local = ip_address("fe80::f816:3eff:fe00:1")
    assert metadata.owner(idl, "net", link_local) == ("server", "project")
    assert asked[-2:] == [
        ("net", "10.0.0.9", None),
        ("net", "fe80::f816:3eff:fe00:1", "fa:16:3e:00:00:01"),
    ]
    found[:] = [SimpleNamespace(external_ids={**known, "neutron:device_id": ""})]
    with pytest.raises(Refused, match="no server's"):
        metadata.owner(idl, "net", ip_address("10.0.0.9"))
