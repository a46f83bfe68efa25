"""The way out: routes, proxies, and the words for each failure."""

from __future__ import annotations

import socket
import ssl
import threading
from urllib.error import URLError

import pytest

from dozencloud.facts.reach import (
    parse_apt_proxies,
    parse_route,
    reason_in_words,
    resolve,
    without_password,
)

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""
DEFAULT = "eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0\n"
ZERO, GATEWAY = "0" * 32, "fd000000000000000000000000000001"
DEFAULT6 = f"{ZERO} 00 {ZERO} 00 {GATEWAY} 00000400 00000002 00000000 00000003     eth0\n"
REJECT6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "found"),
    [
        (ROUTES + DEFAULT, "", True),
        (ROUTES, "", False),
        (ROUTES, DEFAULT6 + REJECT6, True),
        (ROUTES, REJECT6, False),
        ("", "", False),
    ],
)
def test_route(ipv4: str, ipv6: str, found: bool) -> None:
    assert parse_route(ipv4, ipv6) is found


def test_apt_proxies() -> None:
    dump = 'APT "";\nAcquire::http::Proxy "http://cache:3142";\nAcquire::https::Proxy "DIRECT";\n'
    assert parse_apt_proxies(dump) == {"http": "http://cache:3142", "https": ""}
    assert parse_apt_proxies('Acquire::http::Pipeline-Depth "0";\n') == {}


def test_password_is_not_shown() -> None:
    assert without_password("http://me:secret@proxy:8080") == "http://***@proxy:8080"
    assert without_password("http://proxy:8080") == "http://proxy:8080"


def certificate_error() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate is not yet valid"
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name pypi.org does not resolve"),
        (URLError(ConnectionRefusedError(111, "refused")), "it refuses the connection"),
        (URLError(TimeoutError()), "it does not answer"),
        (OSError(101, "Network is unreachable"), "network is unreachable"),
        (
            URLError(certificate_error()),
            "its certificate is not accepted (certificate is not yet valid)",
        ),
        (ValueError("odd"), "odd"),
    ],
)
def test_explain(error: BaseException, words: str) -> None:
    assert reason_in_words(error, "pypi.org") == words


def test_names_are_resolved_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("192.0.2.1") == ("192.0.2.1",)
    assert resolve("localhost") == ("127.0.0.1",)
    assert resolve("no-such-name.invalid") == ()
    answered = threading.Event()

    def silent(*_: object) -> list[object]:
        answered.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    assert resolve("slow.example", limit=0.1) == ()
    answered.set()
