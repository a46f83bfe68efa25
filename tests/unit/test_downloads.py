"""Where the cloud fetches from on a user's word."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dozencloud import downloads
from dozencloud.downloads import REFUSED, Allowed, Rules, judge

PUBLIC = "93.184.216.34"


def names(**known: Sequence[str]) -> Callable[..., Any]:
    """A resolver that knows these names; addresses it takes as inet_aton(3) does."""

    def resolve(host: str, port: int, **_: Any) -> Any:
        host = host.removesuffix(".")
        if host in known:
            return [(0, 0, 0, "", (each, port)) for each in known[host]]
        return socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)

    return resolve


INNER = [
    *("0.0.0.0", "0", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "017700000001"),  # noqa: S104
    *("[::]", "[::1]", "[::ffff:0.0.0.0]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]", "[::8.8.8.8]"),
    *("[64:ff9b::808:808]", "[64:ff9b:1::1]", "[2002:808:808::1]", "[2001:0:808:808::1]"),
    *("[fe80::1]", "[fec0::1]", "[fc00::1]", "[ff02::1]", "[2001:db8::1]", "[100::1]", "[3fff::1]"),
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "198.18.0.1"),
    *("192.0.0.1", "192.0.2.1", "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    "255.255.255.255",
]


@pytest.mark.parametrize("host", INNER)
def test_what_is_not_public_is_refused(host: str) -> None:
    if host == "[3fff::1]" and ipaddress.ip_address("3fff::1").is_global:
        pytest.skip("this Python is older than RFC 9637")
    for scheme in ("http", "https"):
        with pytest.raises(ValueError, match="public addresses only"):
            judge(f"{scheme}://{host}/image", Rules(), names())


@pytest.mark.parametrize(
    "url",
    [
        *("", "http://", "http:///x", "//93.184.216.34/", "93.184.216.34", "http:93.184.216.34"),
        *("file:///etc/passwd", "ftp://93.184.216.34/", "gopher://93.184.216.34/", "data:,x"),
        *("http://a:b@93.184.216.34/", "http://a@93.184.216.34/", "http://@93.184.216.34/"),
        *("http://93.184.216.34:22/", "http://93.184.216.34:0/", "http://93.184.216.34:99999/"),
        *("http://93.184.216.34\\@127.0.0.1/", "http://93.184.216.34 /", "http://93.184.216.34\n/"),
        *("http://[fe80::1%25eth0]/", "http://[::1/", "http://\uff11\uff12\uff17.0.0.1/"),
        *("http://93.184.216.34/\r\nHost: x", "http://nowhere/"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="public addresses only") as told:
        judge(url, Rules(), names())
    assert str(told.value) == REFUSED


def test_a_public_name_leads_to_its_addresses() -> None:
    known = names(**{"images.example.org": [PUBLIC, "2606:2800:220:1::1"]})
    assert judge("https://images.example.org/x?y=z", Rules(), known) == [
        PUBLIC,
        "2606:2800:220:1::1",
    ]
    assert judge(f"http://{PUBLIC}:443/", Rules(), names()) == [PUBLIC]


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%2"])
def test_a_name_with_one_inner_address_is_refused(inner: str) -> None:
    for addresses in ([inner], [PUBLIC, inner], [inner, PUBLIC]):
        with pytest.raises(ValueError, match="public addresses only"):
            judge("http://evil.example.org/", Rules(), names(**{"evil.example.org": addresses}))


def test_the_clouds_own_networks_and_this_machine_are_refused_even_if_public() -> None:
    own = Rules(own=[ipaddress.ip_network("93.184.216.0/24")])
    here = Rules(is_here=lambda address: str(address) == PUBLIC)
    for rules in (own, here):
        with pytest.raises(ValueError, match="public addresses only"):
            judge(f"http://{PUBLIC}/", rules, names())


def test_this_machine_knows_its_addresses() -> None:
    assert downloads.is_here(ipaddress.ip_address("127.0.0.1"))
    assert downloads.is_here(ipaddress.ip_address("127.9.9.9"))
    assert not downloads.is_here(ipaddress.ip_address("8.8.8.8"))


@pytest.mark.parametrize(
    ("setting", "url", "taken"),
    [
        ("10.1.0.0/16", "http://10.1.2.3/", True),
        ("10.1.0.0/16", "http://10.2.2.3/", False),
        ("10.1.0.0/16", "http://10.1.2.3:8080/", False),
        ("10.1.2.3:8080", "http://10.1.2.3:8080/", True),
        ("10.1.2.3:8080", "http://10.1.2.3/", False),
        ("[fd00::5]:8080", "http://[fd00::5]:8080/", True),
        ("fd00::/8", "https://[fd00::5]/", True),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]/", False),
    ],
)
def test_the_setting_allows_what_it_names(setting: str, url: str, taken: bool) -> None:
    rules = Rules(allowed=[Allowed.parse(setting)])
    if taken:
        assert len(judge(url, rules, names())) == 1
    else:
        with pytest.raises(ValueError, match="public addresses only"):
            judge(url, rules, names())


@pytest.mark.parametrize(
    "text", ["", "mirror.example.org", "10.1.2.3/8", "10.1.2.3:x", "1.2.3.4:70000"]
)
def test_other_words_are_no_setting(text: str) -> None:
    with pytest.raises(ValueError):
        Allowed.parse(text)
