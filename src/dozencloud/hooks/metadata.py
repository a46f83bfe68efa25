"""The way of a server's question for metadata from haproxy in its network to Nova.

Upstream takes one recv(4096) for a whole request, and believes what its headers say about who
asks (neutron/common/metadata.py, MetadataProxyHandlerBaseSocketServer.handle): with 4 KiB of
padding what haproxy adds is cut off, and what the server wrote counts. It also makes text of each
answer. Here who asks is not in the request at all. The network is the socket on which haproxy
connects: each network has its own. The address is in the PROXY protocol's head, which haproxy
sends before it passes on anything
(https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt, 2.2). Of the request only method,
target, type and body go on, in a request of our own.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import netaddr
from oslo_utils import netutils

log = logging.getLogger(__name__)

HEAD = 32 * 1024
"""Bytes that a request's head may have; haproxy passes on less than its buffer of 16 KiB."""
BODY = 8 * 1024
"""Bytes of a body. Servers write one thing: a password that only its owner can read."""
NO_LENGTH = "A body comes with its length."
TOO_LONG = f"The body is longer than {BODY} bytes."
THREADS = 16
PER_NETWORK = 4
"""Requests of a network that are answered at a time; others wait in haproxy."""
REQUEST_SECONDS = 10
"""haproxy has all of a request before it connects."""
ANSWER_SECONDS = 30
ANSWER_ROOM = 4 * 1024 * 1024
"""Bytes that the kernel keeps of an answer which a server does not read: no thread waits for it."""

SO_SNDBUFFORCE = 32
"""asm-generic/socket.h: beyond wmem_max, for root. Python has no name for it."""
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TCP4, TCP6 = 0x11, 0x21
METHOD = re.compile(r"[A-Z]{1,16}")
TARGET = re.compile(r"/[!-~]*")
VERSION = re.compile(r"HTTP/1\.[01]")
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
Address = IPv4Address | IPv6Address
SERVER, PROJECT = "neutron:device_id", "neutron:project_id"
"""As Neutron writes them into OVN (neutron/common/ovn/constants.py)."""


class Refused(Exception):
    """A request that is answered without Nova."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class MetadataRequest:
    method: str
    target: str
    kind: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    kind: str
    body: bytes
    length: int

    @classmethod
    def of(cls, refused: Refused) -> Answer:
        body = f"{refused}\n".encode()
        status = refused.status
        return cls(status, status.phrase, "text/plain; charset=UTF-8", body, len(body))

    def bytes(self, *, with_body: bool = True) -> bytes:
        head = (
            f"HTTP/1.1 {self.status} {self.reason}\r\nContent-Type: {self.kind}\r\n"
            f"Content-Length: {self.length}\r\nConnection: close\r\n\r\n"
        )
        return head.encode("latin-1") + (self.body if with_body else b"")


def _bad(reason: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, reason)


class Incoming:
    """What comes on one connection; no more time for all of it than one deadline gives."""

    def __init__(self, connection: socket.socket, seconds: float = REQUEST_SECONDS) -> None:
        self._connection, self._end = connection, time.monotonic() + seconds
        self._rest = b""

    def _more(self) -> bool:
        left = self._end - time.monotonic()
        if left <= 0:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "The request did not come to its end.")
        self._connection.settimeout(left)
        piece = self._connection.recv(16 * 1024)
        self._rest += piece
        return bool(piece)

    def take(self, size: int) -> bytes:
        while len(self._rest) < size:
            if not self._more():
                raise _bad("The request ends too early.")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def head(self) -> str:
        """All up to the empty line."""
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            if len(self._rest) > HEAD:
                break
            if not self._more():
                raise _bad("The request's head does not end.")
        if end < 0 or end > HEAD:
            raise Refused(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The request's head is longer than {HEAD} bytes.",
            )
        return self.take(end + 4)[:-4].decode("latin-1")


def source(incoming: Incoming) -> Address:
    """Who is connected to haproxy, by what haproxy says first."""
    head = incoming.take(16)
    signature, command, family, length = struct.unpack("!12sBBH", head)
    if signature != SIGNATURE or command != 0x21:
        raise _bad("haproxy does not say who asks.")
    addresses = incoming.take(length)
    if family == TCP4 and length >= 12:
        return IPv4Address(addresses[:4])
    if family == TCP6 and length >= 36:
        address = IPv6Address(addresses[:16])
        return address.ipv4_mapped or address
    raise _bad("haproxy does not say who asks.")


def request(incoming: Incoming) -> MetadataRequest:
    """One request, which is understood in one way only."""
    first, *lines = incoming.head().split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not METHOD.fullmatch(words[0]) or not VERSION.fullmatch(words[2]):
        raise _bad("The request's first line is none of HTTP.")
    method, target, _ = words
    if not TARGET.fullmatch(target):
        raise _bad("A request for metadata names a path.")
    fields: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not NAME.fullmatch(name) or "\r" in value or "\n" in value:
            raise _bad("A line of the request's head is none of HTTP.")
        fields.setdefault(name.lower(), []).append(value.strip(" \t"))
    if "transfer-encoding" in fields:
        raise Refused(HTTPStatus.LENGTH_REQUIRED, NO_LENGTH)
    lengths = fields.get("content-length", ["0"])
    if len(lengths) != 1 or not re.fullmatch("[0-9]{1,9}", lengths[0]):
        raise _bad("A body has one length.")
    size = int(lengths[0])
    if size > BODY:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LONG)
    kinds = fields.get("content-type", [""])
    return MetadataRequest(method, target, kinds[0] if len(kinds) == 1 else "", incoming.take(size))


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("metadata", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(nova: Path, asked: MetadataRequest, who: dict[str, str]) -> Answer:
    """Nova's answer, byte by byte as it is. who: the headers that Nova believes."""
    connection = _Unix(nova)
    kind = {"Content-Type": asked.kind} if asked.kind else {}
    try:
        body = asked.body or (b"" if asked.method in ("POST", "PUT") else None)
        connection.request(asked.method, asked.target, body, {**kind, **who})
        answer = connection.getresponse()
        content = answer.read()
        length = int(answer.headers.get("Content-Length") or len(content))
        return Answer(
            answer.status,
            answer.reason,
            answer.headers.get("Content-Type", "text/plain"),
            content,
            length if asked.method == "HEAD" else len(content),
        )
    except (OSError, http.client.HTTPException) as error:
        log.warning("Nova's metadata service does not answer: %s", error)
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE, "The metadata service does not answer. Try again."
        ) from error
    finally:
        connection.close()


def owner(sb_idl: Any, network: str, address: Address) -> tuple[str, str]:
    """Server and project of the one port in the network that has the address.

    Link-local addresses are made from the port's MAC, and OVN lets it use no other.
    """
    mac = None
    if isinstance(address, IPv6Address) and address.is_link_local:
        mac = str(netutils.get_mac_addr_by_ipv6(netaddr.IPAddress(str(address))))
    ports = sb_idl.get_network_port_bindings_by_ip(network, str(address), mac=mac)
    if len(ports) != 1:
        raise Refused(
            HTTPStatus.NOT_FOUND, f"The network has {len(ports) or 'no'} ports with your address."
        )
    known = ports[0].external_ids
    server = known.get(SERVER, "")
    project = known.get(PROJECT, "")
    if not server or not project:
        raise Refused(HTTPStatus.NOT_FOUND, "Your port is no server's.")
    return server, project


Answering = Callable[[str, Address, MetadataRequest], Answer]


def serve(connection: socket.socket, network: str, answering: Answering) -> None:
    """One request and its answer; then the connection ends, whatever else came on it."""
    with connection:
        asked: MetadataRequest | None = None
        try:
            incoming = Incoming(connection)
            who = source(incoming)
            asked = request(incoming)
            answer = answering(network, who, asked)
        except Refused as refused:
            answer = Answer.of(refused)
        except TimeoutError:
            answer = Answer.of(
                Refused(HTTPStatus.REQUEST_TIMEOUT, "The request did not come to its end.")
            )
        connection.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, ANSWER_ROOM)
        connection.settimeout(ANSWER_SECONDS)
        connection.sendall(answer.bytes(with_body=not asked or asked.method != "HEAD"))


class Doors:
    """A socket for each network, in a folder of its own, which is all that its haproxy sees."""

    NAME = "metadata"

    def __init__(self, place: Path, group: int, answering: Answering) -> None:
        self.place, self._group, self._answering = place, group, answering
        self._open: dict[int, tuple[str, socket.socket]] = {}
        self._lock = threading.Lock()
        self._poll = select.epoll()
        self._free = threading.BoundedSemaphore(2 * THREADS)
        self._threads = ThreadPoolExecutor(THREADS, "metadata")

    def folder(self, network: str) -> Path:
        return self.place / network

    def open(self, network: str) -> None:
        """Let the haproxy of that network in. Costs nothing where it is in already."""
        with self._lock:
            if any(network == known for known, _ in self._open.values()):
                return
            folder = self.folder(network)
            folder.mkdir(exist_ok=True)
            _give(folder, self._group, 0o710)
            path = folder / self.NAME
            path.unlink(missing_ok=True)
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            listening.bind(str(path))
            _give(path, self._group, 0o660)
            listening.listen(2 * PER_NETWORK)
            self._open[listening.fileno()] = network, listening
            self._poll.register(listening.fileno(), select.EPOLLIN)

    def close(self, network: str) -> None:
        with self._lock:
            found = [fd for fd, (known, _) in self._open.items() if known == network]
            for fd in found:
                self._poll.unregister(fd)
                self._open.pop(fd)[1].close()
            folder = self.folder(network)
            (folder / self.NAME).unlink(missing_ok=True)
            if folder.is_dir():
                folder.rmdir()

    def run(self) -> None:
        """Take connections for ever."""
        while True:
            for fd, _ in self._poll.poll():
                self._free.acquire()
                try:
                    with self._lock:
                        network, listening = self._open[fd]
                        connection, _ = listening.accept()
                except (KeyError, OSError):  # closed meanwhile, or haproxy is gone again
                    self._free.release()
                    continue
                self._threads.submit(self._serve, connection, network)

    def _serve(self, connection: socket.socket, network: str) -> None:
        try:
            serve(connection, network, self._answering)
        except OSError as error:
            log.debug("haproxy of network %s is gone: %s", network, error)
        except Exception:
            log.exception("A request of network %s got no answer.", network)
        finally:
            self._free.release()


def _give(path: Path, group: int, mode: int) -> None:
    """To root and that group."""
    os.chown(path, 0, group)
    path.chmod(mode)
