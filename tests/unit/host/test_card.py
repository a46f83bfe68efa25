"""Which network cards can be taken for floating IPs, and how what they have is moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.settings import Network, Settings
from dozencloud.facts.card import Card
from dozencloud.host.network import uplink
from dozencloud.host.network.cardmove import (
    Address,
    Had,
    giving,
    making,
    route_words,
    routers,
    taking,
)
from dozencloud.verdicts import Level

LAN = Network(
    provider_interface="eth0",
    provider_cidr="192.0.2.0/24",
    provider_gateway="192.0.2.1",
    floating_range="192.0.2.200-192.0.2.220",
)
CLOUD = Cloud(None, Settings(network=LAN))
GOOD = Card(
    name="eth0",
    ethernet=True,
    kind="",
    master="",
    wireless=False,
    addresses=("192.0.2.10/24",),
    passing=False,
    manager="",
)


@pytest.mark.parametrize(
    ("found", "level", "fact", "mend"),
    [
        (GOOD, Level.NOTE, "becomes a port of br-dozen-lan", ""),
        (replace(GOOD, kind="vlan"), Level.NOTE, "becomes a port of br-dozen-lan", ""),
        (replace(GOOD, master="br-dozen-lan", addresses=()), Level.OK, "is a port of", ""),
        (replace(GOOD, kind="bridge"), Level.OK, "in the network of the bridge eth0", ""),
        (
            # Who made the bridge looks after it.
            replace(GOOD, kind="bridge", passing=True, manager="systemd-networkd"),
            Level.OK,
            "in the network of the bridge eth0",
            "",
        ),
        (None, Level.BAD, "There is no network card eth0", "ip -br link"),
        (replace(GOOD, wireless=True), Level.BAD, "is wireless", "Use a wired card"),
        (replace(GOOD, master="br0"), Level.BAD, "is a part of br0", "name that in"),
        (replace(GOOD, kind="tun"), Level.BAD, "cannot be a port of a bridge (tun)", "Name a"),
        (replace(GOOD, ethernet=False), Level.BAD, "(no Ethernet card)", "Name a wired"),
        (replace(GOOD, addresses=()), Level.BAD, "has no IPv4 address", "Give it an address"),
        (
            replace(GOOD, addresses=("10.0.0.2/8",)),
            Level.BAD,
            "has 10.0.0.2/8, and 192.0.2.0/24 is to be its network",
            "Give it an address",
        ),
        (
            replace(GOOD, addresses=("192.0.2.201/24",)),
            Level.BAD,
            "192.0.2.201/24 is this machine's own address",
            "Choose a range",
        ),
        (
            replace(GOOD, manager="NetworkManager"),
            Level.BAD,
            "NetworkManager manages eth0",
            "Make a bridge over it",
        ),
        (replace(GOOD, passing=True), Level.BAD, "from DHCP", "Give it a fixed address. Or: make"),
    ],
)
def test_cards_are_judged(found: Card | None, level: Level, fact: str, mend: str) -> None:
    verdict = uplink.judge(found, CLOUD)
    assert verdict.level is level
    assert fact in verdict.fact
    assert verdict.mend.startswith(mend) if mend.startswith(("Give", "Make")) else True
    assert mend in verdict.mend


# ---- what is moved ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (
            {
                "family": "inet",
                "local": "192.0.2.10",
                "prefixlen": 24,
                "broadcast": "192.0.2.255",
                "scope": "global",
                "label": "eth0",
                "valid_life_time": 4294967295,
                "preferred_life_time": 4294967295,
            },
            "192.0.2.10/24 scope global broadcast 192.0.2.255",
        ),
        (
            {
                "family": "inet",
                "local": "10.0.0.1",
                "address": "10.0.0.2",
                "prefixlen": 32,
                "scope": "global",
                "metric": 100,
                "noprefixroute": True,
            },
            "10.0.0.1 peer 10.0.0.2/32 scope global metric 100 noprefixroute",
        ),
        (
            {
                "family": "inet6",
                "local": "2001:db8::1",
                "prefixlen": 64,
                "scope": "global",
                "dynamic": True,
                "valid_life_time": 600,
                "preferred_life_time": 300,
            },
            "2001:db8::1/64 scope global valid_lft 600 preferred_lft 300 nodad",
        ),
    ],
)
def test_an_address_as_ip_takes_it(info: dict[str, object], words: str) -> None:
    assert " ".join(Address.of(info).words) == words


ROUTES = """\
default via 192.0.2.1 proto static metric 100 linkdown
192.0.2.0/24 proto kernel scope link src 192.0.2.10
198.51.100.0/24 via 192.0.2.2 table 77 mtu 1300
local 192.0.2.10 table local proto kernel scope host src 192.0.2.10
broadcast 192.0.2.255 table local proto kernel scope link src 192.0.2.10
2001:db8:2::/64 proto ra metric 1024 expires 1790sec pref medium
"""


def test_routes_that_come_with_an_address_are_left_to_the_kernel() -> None:
    words = [" ".join(each) for each in route_words(ROUTES, prefixes=False)]
    assert words == [
        "default via 192.0.2.1 proto static metric 100",
        "198.51.100.0/24 via 192.0.2.2 table 77 mtu 1300",
        "2001:db8:2::/64 proto ra metric 1024 expires 1790 pref medium",
    ]
    own = "192.0.2.0/24 proto kernel scope link src 192.0.2.10"
    assert own in (" ".join(each) for each in route_words(ROUTES, prefixes=True))


HAD = Had(
    card="eth0",
    mac="02:00:5e:00:00:10",
    mtu=1400,
    off=False,
    addresses=(
        Address(("192.0.2.10/24", "scope", "global"), ipv6=False, label="eth0", passing=False),
        Address(("192.0.2.11/24", "scope", "global"), ipv6=False, label="eth0:1", passing=False),
        Address(("2001:db8::1/64", "scope", "global", "nodad"), True, "", passing=False),
    ),
    routes=(("default", "via", "192.0.2.1"),),
    routes6=(),
)


def test_the_address_is_at_one_of_both_at_any_moment() -> None:
    lines = taking(HAD, "br")
    assert making(HAD, "br")[0].startswith("link add br address 02:00:5e:00:00:10 mtu 1400 type")
    assert lines.index("address replace 192.0.2.10/24 scope global dev br") < lines.index(
        "link set eth0 master br"
    )
    assert lines.index("route append default via 192.0.2.1 dev br") < lines.index(
        "route delete default via 192.0.2.1 dev eth0"
    )
    # The first one takes the others of its network along.
    assert lines[-2:] == [
        "address delete 192.0.2.11/24 dev eth0",
        "address delete 192.0.2.10/24 dev eth0",
    ]
    back = giving(HAD)
    assert back[0] == "address replace 192.0.2.10/24 scope global label eth0 dev eth0"
    assert back[1] == "address replace 192.0.2.11/24 scope global label eth0:1 dev eth0"
    assert "link set eth0 nomaster" in back[2:]


def test_what_a_card_had_is_kept(tmp_path: Path) -> None:
    HAD.save(tmp_path / "card.json")
    assert Had.load(tmp_path / "card.json") == HAD
    assert routers(HAD) == {"192.0.2.1"}
