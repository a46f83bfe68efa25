"""Which series of OVN this machine has, or will have: what its flows are written in."""

from __future__ import annotations

import re

from dozencloud.facts.run import ask

SERIES = re.compile(r"\d{2}\.\d{2}")


def installed(program: str = "ovn-northd") -> str:
    """Of the program, such as `25.03`; empty where it is not installed."""
    return _first(ask(program, "--version").output)


def coming() -> str:
    """Of ovn-controller on a node: as it is, or as apt would install it; empty where unknown."""
    return installed("ovn-controller") or _first(ask("apt-cache", "policy", "ovn-host").output)


def reads(node: str, controller: str) -> bool:
    """Whether an ovn-controller of the one series reads what an ovn-northd of the other writes.

    A newer one does; the other way OVN promises nothing (ovn-upgrades.rst in its documentation),
    and 23.03 leaves out what it cannot read of 25.03, which is every connection. An unknown series
    is believed to.
    """
    if not (SERIES.fullmatch(node) and SERIES.fullmatch(controller)):
        return True
    return _numbers(node) >= _numbers(controller)


def _numbers(series: str) -> tuple[int, ...]:
    return tuple(map(int, series.split(".")))


def _first(text: str) -> str:
    found = re.search(rf"({SERIES.pattern})\.\d+", text)
    return found[1] if found else ""
