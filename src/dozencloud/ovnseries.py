"""Which series of OVN this machine has, or will have: what its flows are written in."""

from __future__ import annotations

import re

from dozencloud.facts.run import ask

SERIES = re.compile(r"(\d+\.\d+)\.\d+")


def installed(program: str = "ovn-northd") -> str:
    """Of the program, such as `25.03`; empty where it is not installed."""
    return _first(ask(program, "--version").output)


def coming() -> str:
    """Of ovn-controller on a node: as it is, or as apt would install it; empty where unknown."""
    return installed("ovn-controller") or _first(ask("apt-cache", "policy", "ovn-host").output)


def number(series: str) -> tuple[int, ...]:
    """By which series are compared; empty, which is the least, where it is none."""
    return tuple(map(int, series.split("."))) if re.fullmatch(r"\d+\.\d+", series) else ()


def _first(text: str) -> str:
    found = SERIES.search(text)
    return found[1] if found else ""
