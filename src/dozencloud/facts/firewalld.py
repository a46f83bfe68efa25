"""firewalld, by the rules that it has made: what it lets in, and what it lets pass.

Its tables, chains and zones are as version 1.3 makes them (src/firewall/core/nftables.py there).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dozencloud.facts.run import ask

TABLE = ("inet", "firewalld")
INPUT, FORWARD = "filter_INPUT", "filter_FORWARD"
"""Its first chains; the names of those that choose among zones begin so, too."""


@dataclass(frozen=True)
class Entrance:
    """What firewalld lets in to the machine itself.

    ports: of TCP, first and last, in any zone.   trusted: devices from which it lets in everything.
    """

    ports: frozenset[tuple[int, int]]
    trusted: frozenset[str]

    def lets(self, port: int, own: Iterable[str] = ()) -> bool:
        """Whether others may reach that port, by one card at least. own: devices that are none."""
        cards = self.trusted - {*own}
        return bool(cards) or any(first <= port <= last for first, last in self.ports)


def entrance() -> Entrance | None:
    """That of the network namespace of this process; None where no firewalld is at work."""
    rules = ask("nft", "--json", "list", "table", *TABLE)
    return find_entrance(json.loads(rules.output)["nftables"]) if rules.ok else None


def find_entrance(ruleset: Iterable[dict[str, Any]]) -> Entrance | None:
    """From what `nft --json list ruleset` shows."""
    things = list(ruleset)
    if not is_there(things):
        return None
    ports = {
        _range(match["right"])
        for rule in _rules(things)
        if rule["chain"].startswith("filter_IN_") and {"accept": None} in rule["expr"]
        for match in _matches(rule)
        if match["left"] == {"payload": {"protocol": "tcp", "field": "dport"}}
    }
    return Entrance(frozenset(ports), frozenset(accepted(things, INPUT, "iifname")))


def is_there(things: list[dict[str, Any]]) -> bool:
    chains = (thing["chain"] for thing in things if "chain" in thing)
    return any((*_table(chain), chain["name"]) == (*TABLE, FORWARD) for chain in chains)


def accepted(things: list[dict[str, Any]], first: str, key: str) -> set[str]:
    """Devices (by `key`, iifname or oifname) that a zone or a policy accepts everything of."""
    rules = list(_rules(things))
    accepting = {rule["chain"] for rule in rules if rule["expr"] == [{"accept": None}]}
    return {
        match["right"]
        for rule in rules
        if rule["chain"].startswith(first) and accepting & set(_targets(rule))
        for match in _matches(rule)
        if match["left"] == {"meta": {"key": key}} and isinstance(match["right"], str)
    }


def _table(thing: dict[str, Any]) -> tuple[str, str]:
    return thing["family"], thing["table"]


def _rules(things: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    rules = (thing["rule"] for thing in things if "rule" in thing)
    return (rule for rule in rules if _table(rule) == TABLE)


def _matches(rule: dict[str, Any]) -> list[dict[str, Any]]:
    return [each["match"] for each in rule["expr"] if "match" in each]


def _targets(rule: dict[str, Any]) -> Iterator[str]:
    for each in rule["expr"]:
        for word in ("goto", "jump"):
            if word in each:
                yield each[word]["target"]


def _range(right: Any) -> tuple[int, int]:
    """A port, or a range of them, as nft says it."""
    first, last = right["range"] if isinstance(right, dict) else (right, right)
    return first, last
