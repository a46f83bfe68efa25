"""Why no node takes a server, in one sentence.

Whoever asked for the server reads it, so it names no node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

UNITS = {
    "VCPU": "CPUs",
    "PCPU": "dedicated CPUs",
    "MEMORY_MB": "MiB of memory",
    "DISK_GB": "GiB of disk",
}
"""Placement's resource classes that every server may ask for."""

MOST_NAMED = 8
"""Architectures; with all of QEMU's emulators there are thirty, and a fault has 255 characters."""


@dataclass(frozen=True)
class Amount:
    """Of one resource: what a single server could get at most on the empty node, what is free."""

    most: int
    free: int


@dataclass(frozen=True)
class Candidate:
    """A node as Nova and Placement know it. runs: architectures."""

    enabled: bool
    up: bool
    runs: frozenset[str]
    traits: frozenset[str]
    amounts: Mapping[str, Amount]


@dataclass(frozen=True)
class Asked:
    """What is asked for each of `count` servers. architecture: empty where the image is silent."""

    architecture: str = ""
    traits: frozenset[str] = frozenset()
    resources: Mapping[str, int] = field(default_factory=dict)
    count: int = 1


def why_none(request: Asked, nodes: Sequence[Candidate]) -> str:
    """The first thing that rules out every node left; empty where none does."""
    if not nodes:
        return "The cloud has no other node."
    able = [node for node in nodes if not request.architecture or request.architecture in node.runs]
    if not able:
        known = sorted(frozenset[str]().union(*(node.runs for node in nodes)))
        here = f" Nodes here run {', '.join(known)}." if 0 < len(known) <= MOST_NAMED else ""
        return f"No node can run {request.architecture} servers.{here}"
    fit = [node for node in able if request.traits <= node.traits]
    if not fit:
        return _traits(request.traits, able)
    awake = [node for node in fit if node.enabled and node.up]
    if not awake:
        return _asleep(fit)
    return _resources(request, awake)


def _traits(wanted: frozenset[str], nodes: Iterable[Candidate]) -> str:
    found = frozenset[str]().union(*(node.traits for node in nodes))
    if missing := sorted(wanted - found):
        return f"No node that could run the server has the trait {missing[0]}."
    return f"No node has all of the traits {', '.join(sorted(wanted))}."


def _asleep(nodes: Sequence[Candidate]) -> str:
    disabled = sum(not node.enabled for node in nodes)
    words = [
        f"{number} {state}"
        for number, state in ((len(nodes) - disabled, "down"), (disabled, "disabled"))
        if number
    ]
    return f"The nodes that could run the server do not work now: {', '.join(words)}."


def _resources(request: Asked, nodes: Sequence[Candidate]) -> str:
    wanted = {name: amount for name, amount in request.resources.items() if name in UNITS}
    nothing = Amount(0, 0)
    for name, amount in wanted.items():
        there = [node.amounts.get(name, nothing) for node in nodes]
        most, free = max(each.most for each in there), max(each.free for each in there)
        if most < amount:
            limit = f"gives one server more than {most}" if most else "has any"
            return f"The server needs {_text(name, amount)}, and no node {limit}."
        if free < amount:
            left = f"more than {free}" if free > 0 else "any"
            return f"The server needs {_text(name, amount)}, and no node has {left} left."
    if not any(
        all(node.amounts.get(name, nothing).free >= amount for name, amount in wanted.items())
        for node in nodes
    ):
        everything = ", ".join(_text(name, amount) for name, amount in wanted.items())
        return f"No node has all of it left: {everything}."
    return f"There is no room for {request.count} such servers." if request.count > 1 else ""


def _text(name: str, amount: int) -> str:
    unit = UNITS[name]
    return f"{amount} {unit.removesuffix('s') if amount == 1 else unit}"
