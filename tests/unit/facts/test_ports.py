"""Ports: the kernel's tables, and when two sockets clash."""

from __future__ import annotations

import sys

import pytest

from dozencloud.facts.ports import (
    Listener,
    Socket,
    clashes,
    decode_address,
    owner_in,
    parse_sockets,
)
from dozencloud.facts.processes import parse_parent

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="samples of little-endian hosts")

ANY = "0.0.0.0"  # noqa: S104

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid inode\n"
TCP = (
    HEAD
    + "   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0"
    " 1146 1 000000005852a8f2 100 0 0 10 0\n"
    "   1: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   107        0"
    " 2210 1 00000000c800bc68 100 0 0 10 0\n"
    "   2: 020200C0:ACD4 507100CB:01BB 06 00000000:00000000 03:0000086E 00000000     0        0"
    " 0 3 00000000c800bc68\n"
    "   3: 0100007F:0CEB 0100007F:D431 01 00000000:00000000 00:00000000 00000000   107        0"
    " 2299 1 000000004b803e8c\n"
)
TCP6 = (
    HEAD + "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A"
    " 00000000:00000000 00:00000000 00000000     0        0 3300 1 0000000000000000 100 0 0\n"
    "   1: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A"
    " 00000000:00000000 00:00000000 00000000     0        0 3301 1 0000000000000000 100 0 0\n"
)
UDP = (
    HEAD
    + "  100: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0"
    " 4400 2 0000000000000000 0\n"
    "  101: 020200C0:8F3A 08080808:0035 01 00000000:00000000 00:00000000 00000000     0        0"
    " 4401 2 0000000000000000 0\n"
)


def test_tables() -> None:
    assert parse_sockets(TCP, "tcp") == (
        Socket("tcp", ANY, 443, 1146),
        Socket("tcp", "127.0.0.1", 3306, 2210),
    )
    assert parse_sockets(TCP6, "tcp") == (
        Socket("tcp", "::", 8080, 3300),
        Socket("tcp", "::1", 631, 3301),
    )
    assert parse_sockets(UDP, "udp") == (Socket("udp", "127.0.0.53", 53, 4400),)
    assert parse_sockets("", "tcp") == ()


def test_ipv4_in_ipv6_is_ipv4() -> None:
    assert decode_address("0000000000000000FFFF00000100007F") == "127.0.0.1"


@pytest.mark.parametrize(
    ("taken", "wanted", "clash"),
    [
        (ANY, "127.0.0.1", True),
        ("127.0.0.1", ANY, True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.53", "127.0.0.1", False),
        ("192.0.2.1", "127.0.0.1", False),
        ("::", ANY, True),
        ("::", "127.0.0.1", True),
        ("::1", "127.0.0.1", False),
        ("::1", ANY, False),
        ("::1", "::", True),
        (ANY, "::", True),
        (ANY, "::1", False),
    ],
)
def test_clash(taken: str, wanted: str, clash: bool) -> None:
    assert clashes(taken, wanted) is clash


def test_owner() -> None:
    nginx = Listener("tcp", ANY, 443, 812, "nginx")
    resolver = Listener("udp", "127.0.0.53", 53, 90, "systemd-resolve")
    taken = (resolver, nginx)
    assert owner_in(taken, 443, "127.0.0.1", "tcp") is nginx
    assert owner_in(taken, 443, "127.0.0.1", "udp") is None
    assert owner_in(taken, 444, ANY, "tcp") is None
    assert owner_in(taken, 53, "127.0.0.1", "udp") is None
    assert str(nginx) == "nginx (pid 812)"
    assert str(Listener("tcp", "::", 1, None, "")) == "a program that cannot be seen from here"


def test_parent() -> None:
    assert parse_parent("812 (nginx) S 1 812 812 0") == 1
    assert parse_parent("900 (odd) name) (x) R 77 900 1 0") == 77
