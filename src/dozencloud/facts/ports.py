"""Who listens on which port."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dozencloud.facts.processes import PROC, name, pids

Protocol = Literal["tcp", "udp"]

_TCP_LISTEN = 0x0A  # include/net/tcp_states.h


@dataclass(frozen=True)
class Socket:
    """One bound socket, as the kernel's table has it."""

    protocol: Protocol
    address: str
    port: int
    inode: int


@dataclass(frozen=True)
class Listener:
    """A taken port. `pid` is None where the owner cannot be seen (not root, other namespace)."""

    protocol: Protocol
    address: str
    port: int
    pid: int | None
    program: str

    def __str__(self) -> str:
        if self.pid is None:
            return "a program that cannot be seen from here"
        return f"{self.program or 'a program'} (pid {self.pid})"


def parse_sockets(text: str, protocol: Protocol) -> tuple[Socket, ...]:
    """Listening TCP or unconnected UDP sockets in a /proc/net/{tcp,tcp6,udp,udp6} table."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10:
            continue
        address, _, port = fields[1].partition(":")
        if protocol == "tcp" and int(fields[3], 16) != _TCP_LISTEN:
            continue
        if protocol == "udp" and not fields[2].endswith(":0000"):
            continue
        found.append(Socket(protocol, decode_address(address), int(port, 16), int(fields[9])))
    return tuple(found)


def decode_address(text: str) -> str:
    """ "0100007F" → "127.0.0.1": 32-bit words in the order of the host's bytes."""
    words = (bytes.fromhex(text[start : start + 8]) for start in range(0, len(text), 8))
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)


def clashes(taken: str, wanted: str) -> bool:
    """Whether a socket on `taken` keeps another from binding `wanted`.

    "::" counts as taking IPv4 too: it does unless the program asked for IPV6_V6ONLY, which
    /proc does not tell.
    """
    have, want = ipaddress.ip_address(taken), ipaddress.ip_address(wanted)
    if have == want:
        return True
    if have.version == want.version:
        return have.is_unspecified or want.is_unspecified
    wide = have if have.version == 6 else want
    return wide.is_unspecified


def owner_in(
    listeners: Iterable[Listener], port: int, address: str, protocol: Protocol
) -> Listener | None:
    """The first of `listeners` that is in the way of `address`:`port`."""
    return next(
        (
            listener
            for listener in listeners
            if (listener.port, listener.protocol) == (port, protocol)
            and clashes(listener.address, address)
        ),
        None,
    )


def port_owner(
    port: int,
    address: str = "0.0.0.0",  # noqa: S104
    protocol: Protocol = "tcp",
) -> Listener | None:
    """Who, at this moment, is in the way of binding `address`:`port`; None if nobody."""
    return owner_in(listeners(), port, address, protocol)


def listeners() -> tuple[Listener, ...]:
    """Every port taken in this network namespace, with its program where we may see it."""
    tables: Mapping[str, Protocol] = {"tcp": "tcp", "tcp6": "tcp", "udp": "udp", "udp6": "udp"}
    sockets: list[Socket] = []
    for table, protocol in tables.items():
        try:
            sockets += parse_sockets((PROC / "net" / table).read_text(), protocol)
        except OSError:  # a kernel without IPv6
            continue
    owners = _owners(frozenset(socket.inode for socket in sockets))
    found = []
    for socket in sockets:
        pid = owners.get(socket.inode)
        program = name(pid) if pid is not None else ""
        found.append(Listener(socket.protocol, socket.address, socket.port, pid, program))
    return tuple(sorted(found, key=lambda each: (each.protocol, each.port, each.address)))


def _owners(inodes: frozenset[int]) -> dict[int, int]:
    """Socket inode → the lowest pid that holds it: of a forking server the parent."""
    owners: dict[int, int] = {}
    for pid in sorted(pids()):
        for target in _open_files(PROC / str(pid) / "fd"):
            if (match := re.fullmatch(r"socket:\[(\d+)\]", target)) and int(match[1]) in inodes:
                owners.setdefault(int(match[1]), pid)
    return owners


def _open_files(folder: Path) -> Iterable[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            yield Path(entry.path).readlink().as_posix()
        except OSError:
            continue
