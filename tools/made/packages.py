"""Packages of the system that `up` installs: what for, and their names in each distribution."""

from __future__ import annotations

from collections.abc import Iterator

from dozencloud.cloud.plan import JOINED
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.base import Distribution
from dozencloud.host.distributions.needs import ON_DEMAND, Need
from dozencloud.services import needs
from made.markdown import code, table

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""uname -m -> the word for people."""


def packages_table() -> str:
    return table(("why", "Debian and Ubuntu", "Fedora", "where"), _rows())


def _rows() -> Iterator[tuple[str, str, str, str]]:
    on_nodes = needs(JOINED, time=True)
    for need in Need:
        if need not in ON_DEMAND:
            where = "" if need in on_nodes else "controller"
            debians = _cell(need, [*_versions("debian"), *_versions("ubuntu")])
            yield need, debians, _cell(need, _versions("fedora")), where


def _versions(name: str) -> list[Distribution]:
    kind = registry.known()[name]
    return [kind(version) for version in kind.versions]


def _cell(need: Need, among: list[Distribution]) -> str:
    """Names of the packages, each with the systems that have it where not all of them do."""
    having: dict[str, list[str]] = {}
    kinds: dict[str, set[str]] = {}
    for system in among:
        for machine, kind in MACHINES.items():
            for name in system.packages(need, machine):
                kinds.setdefault(name, set()).add(kind)
                if f"{system.name} {system.version}" not in having.setdefault(name, []):
                    having[name].append(f"{system.name} {system.version}")
    words = []
    for name, where in having.items():
        only = where if len(where) < len(among) else []
        only = [*only, *(sorted(kinds[name]) if len(kinds[name]) == 1 else [])]
        words.append(code(name) + (f" ({', '.join(only)})" if only else ""))
    return ", ".join(words)
