"""Routes and name servers, as the kernel and resolv.conf write them."""

from __future__ import annotations

import sys
from ipaddress import IPv4Network

import pytest

from dozencloud.facts.routes import Route, name_servers, parse_resolver, parse_routes, routes

TABLE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t0000000A\t090200C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0
wg0\t0700000A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
down\t0000A8C0\t00000000\t0000\t0\t0\t0\t0000FFFF\t0\t0\t0
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="written by a machine of the other order")
def test_routes_but_the_default_one_and_those_of_devices_that_are_down() -> None:
    assert parse_routes(TABLE) == (
        Route(IPv4Network("192.0.2.0/24"), "eth0"),
        Route(IPv4Network("10.0.0.0/8"), "tun0", "192.0.2.9"),
        Route(IPv4Network("10.0.0.7/32"), "wg0"),
    )
    assert parse_routes("") == ()


def test_name_servers() -> None:
    text = "# nameserver 1.1.1.1\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\n nameserver 9.9.9.9\n"
    assert parse_resolver(text) == ("9.9.9.9",)


def test_of_this_machine() -> None:
    assert all(route.network.prefixlen for route in routes())
    assert isinstance(name_servers(), tuple)
