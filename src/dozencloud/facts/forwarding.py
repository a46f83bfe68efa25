"""Firewalls of this machine that drop what passes through it, such as Docker's. Changes nothing.

A rule of ours cannot overrule them: a packet has to be accepted by every chain that sees it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dozencloud.facts import firewalld
from dozencloud.facts.run import ask

LEGACY_TABLES = Path("/proc/net/ip_tables_names")
"""Tables of the older iptables, which nft does not show; asking for one would load it."""
DOCKER = "DOCKER-USER"
"""Chain in which Docker leaves room for rules of the machine's owner."""


@dataclass(frozen=True)
class Wall:
    """A chain that drops what passes unless a rule lets it.

    program: what changes it (iptables, iptables-legacy, nft, firewall-cmd).
    chain: where a rule of a person's belongs; for nft with family and table.
    inward, outward: devices that packets are let in by, and out by; they may end with a star.
    """

    program: str
    chain: str
    inward: frozenset[str]
    outward: frozenset[str]

    def lets(self, device: str) -> bool:
        """Whether packets pass from and to this device."""
        return all(
            any(fnmatchcase(device, name) for name in names)
            for names in (self.inward, self.outward)
        )


def walls() -> tuple[Wall, ...]:
    """Those of the network namespace of this process."""
    found: list[Wall] = []
    rules = ask("nft", "--json", "list", "ruleset")
    if rules.ok:
        found += nft_walls(json.loads(rules.output)["nftables"])
    try:
        legacy = "filter" in LEGACY_TABLES.read_text().split()
    except OSError:
        legacy = False
    if legacy:
        found += legacy_walls(ask("iptables-legacy", "--list-rules").output)
    return tuple(found)


def nft_walls(ruleset: Iterable[dict[str, Any]]) -> list[Wall]:
    """From what `nft --json list ruleset` shows."""
    things = list(ruleset)
    chains = [thing["chain"] for thing in things if "chain" in thing]
    rules = [thing["rule"] for thing in things if "rule" in thing]
    found = []
    for chain in chains:
        if (chain.get("hook"), chain.get("policy")) != ("forward", "drop"):
            continue
        if chain["family"] not in ("ip", "inet"):
            continue
        place = (chain["family"], chain["table"])
        inward, outward = set[str](), set[str]()
        for rule in rules:
            if (rule["family"], rule["table"]) == place and {"accept": None} in rule["expr"]:
                inward |= _devices(rule, "iifname")
                outward |= _devices(rule, "oifname")
        program, name = "nft", f"{' '.join(place)} {chain['name']}"
        if (*place, chain["name"]) == ("ip", "filter", "FORWARD"):
            docker = any((c["family"], c["table"], c["name"]) == (*place, DOCKER) for c in chains)
            program, name = "iptables", DOCKER if docker else "FORWARD"
        found.append(Wall(program, name, frozenset(inward), frozenset(outward)))
    if firewalld.is_there(things):
        # Its chain's policy is to accept, and its last rule rejects.
        first = firewalld.FORWARD
        from_, to = (
            frozenset(firewalld.accepted(things, first, key)) for key in ("iifname", "oifname")
        )
        found.append(Wall("firewall-cmd", first, inward=from_, outward=to))
    return found


def _devices(rule: dict[str, Any], key: str) -> set[str]:
    found: set[str] = set()
    for match in (each["match"] for each in rule["expr"] if "match" in each):
        right = match["right"]
        if match["left"] == {"meta": {"key": key}} and match["op"] == "==":
            found |= {right} if isinstance(right, str) else set(right.get("set", ()))
    return found


def legacy_walls(rules: str) -> list[Wall]:
    """From what `iptables-legacy --list-rules` shows."""
    if not re.search(r"^-P FORWARD DROP$", rules, re.MULTILINE):
        return []
    accepting = [line for line in rules.splitlines() if line.endswith("-j ACCEPT")]

    def devices(option: str) -> frozenset[str]:
        names = re.findall(rf"(?<!! )-{option} (\S+)", "\n".join(accepting))
        return frozenset(f"{name[:-1]}*" if name.endswith("+") else name for name in names)

    docker = re.search(rf"^-N {DOCKER}$", rules, re.MULTILINE)
    chain = DOCKER if docker else "FORWARD"
    return [Wall("iptables-legacy", chain, devices("i"), devices("o"))]
