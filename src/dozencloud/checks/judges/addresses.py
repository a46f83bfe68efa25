"""Addresses that the cloud takes: whether they are free."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import combinations

from dozencloud.checks.judges.words import named
from dozencloud.checks.needs import Needs, Range
from dozencloud.facts import Facts
from dozencloud.verdicts import Level, Verdict


def ranges(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    if not needs.ranges:
        return
    clashes = [
        Verdict(
            "addresses",
            Level.BAD,
            f"{one} and {other.what} ({other.network}) overlap.",
            _move(other if other.setting else one, needs),
        )
        for one, other in combinations(needs.ranges, 2)
        if one.network.overlaps(other.network)
    ]
    for each in (each for each in needs.ranges if not each.shared):
        clashes += _in_the_way(each, facts, needs)
        clashes += _swallowed(each, facts, needs)
    yield from clashes
    if not clashes:
        fact = f"Nothing else has {named(str(each.network) for each in needs.ranges)}."
        yield Verdict("addresses", Level.OK, fact)


def _in_the_way(ours: Range, facts: Facts, needs: Needs) -> Iterator[Verdict]:
    """Routes of this machine to addresses of that range."""
    for route in facts.routes:
        there = route.network
        if route.device in needs.own or not there.overlaps(ours.network):
            continue
        wider = there != ours.network and there.supernet_of(ours.network)
        if wider and ours.fixed:
            continue
        if not ours.routed:
            yield Verdict(
                "addresses",
                Level.WARN,
                f"{ours} has addresses of {there}, which "
                f"{route.device} leads to: servers do not reach what is there.",
                _move(ours, needs),
            )
        elif wider and route.gateway:
            yield Verdict(
                "addresses",
                Level.WARN,
                f"{ours} would hide a part of {there}, which is behind {route.gateway}, from this "
                "machine.",
                _move(ours, needs),
            )
        else:
            yield Verdict(
                "addresses",
                Level.BAD,
                f"The network {ours.network} of {ours.what} leads to the device {route.device} "
                "already.",
                _move(ours, needs),
            )


def _swallowed(ours: Range, facts: Facts, needs: Needs) -> Iterator[Verdict]:
    """Machines that would not be reached any more."""
    far = [*needs.far, *(("this machine's name server", each) for each in facts.name_servers)]
    for name, address in far:
        if ipaddress.IPv4Address(address) in ours.network:
            whose = "this machine" if ours.routed else "servers"
            yield Verdict(
                "addresses",
                Level.BAD if ours.routed else Level.WARN,
                f"{ours} would hide {name}, {address}, from {whose}.",
                _move(ours, needs),
            )


def _move(ours: Range, needs: Needs) -> str:
    if not ours.setting:
        return "Choose another --root: its name decides the addresses."
    if ours.made:
        return (
            "The cloud was made with it: change the other's addresses, or destroy the cloud and "
            f"bring it up anew with another {ours.setting} in {needs.settings}."
        )
    section, _, name = ours.setting.partition(".")
    return (
        f'Choose one that is free, e.g. {name} = "10.99.0.0/24" under [{section}] in '
        f"{needs.settings}."
    )
