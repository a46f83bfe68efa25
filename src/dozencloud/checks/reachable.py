"""Whether projects' networks work as people feel it: asked of the networks, not of processes.

A router answers an echo request to its address outside (ovn-northd(8), ingress table of logical
routers: IP input), and floating IPs go the same way: so what does not answer has none that does.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dozencloud.cloud.installation import Cloud
from dozencloud.content.networks import EXTERNAL
from dozencloud.errors import Problem
from dozencloud.facts.run import ask
from dozencloud.host.network import switching
from dozencloud.tasks.graph import Step

OUTSIDE = "neutron:is_ext_gw"
"""Neutron's mark on the port of a router that leads outside (neutron/common/ovn/constants.py)."""
NETWORK_NAME = "neutron:network_name"
"""Of a logical switch, the network's name; of a router's port, the name of its logical switch."""
NAMED = 3
"""Addresses in one sentence."""


@dataclass(frozen=True)
class Routers:
    """IPv4 addresses outside of the projects' routers that are switched on; which are silent."""

    addresses: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    @property
    def fault(self) -> str:
        """What is wrong with the way to all of them, a sentence without its dot; empty if nothing.

        One that is silent beside others that answer may be so by its project's wish.
        """
        return self._no_answer() if self.silent and self.silent == self.addresses else ""

    @property
    def some_silent(self) -> str:
        """The same of some of them."""
        return self._no_answer() if self.silent and self.silent != self.addresses else ""

    def _no_answer(self) -> str:
        found = self.silent
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        whose = (
            f"router with the address {found[0]}"
            if len(found) == 1
            else f"routers with the addresses {', '.join(found[:NAMED])}{more}"
        )
        return f"No answer came from the {whose}, so floating IPs behind it cannot be reached"


def routers(cloud: Cloud) -> Routers:
    """Asks those on the network `public`; none are found where OVN does not answer."""
    addresses = _addresses(cloud)
    if not addresses:
        return Routers()
    # fping(8): -u shows what is unreachable; its errors are about those, too.
    asked = ask("fping", "-q", "-u", "-r", "1", "-t", "500", *addresses, timeout=30)
    unreachable = asked.output.split()
    return Routers(addresses, tuple(each for each in addresses if each in unreachable))


def _addresses(cloud: Cloud) -> tuple[str, ...]:
    """Cheap: one question to the northbound database."""
    rows = _rows(
        cloud,
        "ovn-nbctl",
        *("--columns=enabled,ports", "list", "Logical_Router", "--"),
        *("--columns=_uuid,networks,external_ids", "list", "Logical_Router_Port", "--"),
        *("--columns=name,external_ids", "list", "Logical_Switch"),
    )
    if not rows:
        return ()
    off = {port for row in rows[0] if row["enabled"] == [False] for port in row["ports"]}
    # Any project may call its own network external; no other may have this name.
    public = {
        row["name"][0] for row in rows[2] if row["external_ids"].get(NETWORK_NAME) == EXTERNAL
    }
    return tuple(
        network.partition("/")[0]
        for row in rows[1]
        if row["external_ids"].get(OUTSIDE, "").lower() == "true" and row["_uuid"][0] not in off
        if row["external_ids"].get(NETWORK_NAME) in public
        for network in row["networks"]
        if ipaddress.ip_interface(network).version == 4
    )


def _rows(cloud: Cloud, program: str, *words: str) -> list[list[dict[str, Any]]]:
    """What ovn-nbctl or ovn-sbctl lists, a table for each command: columns by name, as lists."""
    path = {"ovn-nbctl": switching.northbound_socket, "ovn-sbctl": switching.southbound_socket}[
        program
    ](cloud)
    answer = ask(program, f"--db=unix:{path}", "--format=json", *words)
    if not answer.ok:
        return []
    tables = [json.loads(line) for line in answer.output.splitlines() if line]
    return [
        [dict(zip(each["headings"], map(_value, row), strict=True)) for row in each["data"]]
        for each in tables
    ]


def _value(cell: Any) -> Any:
    """A column's value: RFC 7047, 5.1."""
    match cell:
        case ["map", pairs]:
            return dict(pairs)
        case ["set", members]:
            return [_atom(member) for member in members]
        case _:
            return [_atom(cell)]


def _atom(cell: Any) -> Any:
    return cell[1] if isinstance(cell, list) else cell


def behind(cloud: Cloud, chassis: Iterable[str], seconds: float = 5.0) -> frozenset[str] | None:
    """Those of the chassis that do not take up the newest configuration within that time.

    Each writes into the southbound database which it has (Chassis_Private.nb_cfg, ovn-sb(5)). None
    where OVN's databases, or what translates between them, do not answer.
    """
    wanted = frozenset(chassis)
    where = f"--db=unix:{switching.northbound_socket(cloud)}"
    # Numbers the configuration of now, and waits until it is in the southbound database.
    if not ask("ovn-nbctl", where, "--timeout=10", "--wait=sb", "sync", timeout=15).ok:
        return None
    end = time.monotonic() + seconds
    while True:
        rows = _rows(
            cloud,
            "ovn-sbctl",
            *("--columns=nb_cfg", "list", "SB_Global", "--"),
            *("--columns=name,nb_cfg", "list", "Chassis_Private"),
        )
        if not rows:
            return None
        newest = rows[0][0]["nb_cfg"]
        late = wanted - {row["name"][0] for row in rows[1] if row["nb_cfg"] >= newest}
        if not late or time.monotonic() > end:
            return late
        time.sleep(0.1)


def await_answers(cloud: Cloud, step: Step) -> None:
    """Until every router answers, or after a minute some; Problem where none does."""

    def answers() -> bool | str:
        found = routers(cloud)
        return found.fault or found.some_silent or True

    try:
        step.until(answers, seconds=60, every=0.5, what="The way to floating IPs")
    except Problem as problem:
        if not routers(cloud).fault:
            step.log.write(f"{problem.what} {problem.detail}\n")
            return
        mend = f"To see what is wrong: {cloud.command('doctor')}"
        raise Problem(f"{problem.detail}.", mend) from problem
