"""Servers leave a node: while it runs by shelving, after it was lost by rebuilding.

Nodes need not trust each other, so no disk goes from one to another: a server that moves is shut
down, its disk goes to Glance as an image, and it starts elsewhere from that. It keeps its
addresses, its name and its data. Where nodes trust each other, one that runs is migrated live.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from openstack.exceptions import ConflictException, HttpException, NotFoundException, SDKException

from dozencloud.access import administrator
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import changing
from dozencloud.errors import Exit, Problem
from dozencloud.nodes import listing, reports
from dozencloud.nodes.controller import departing
from dozencloud.nodes.listing import Condition, Row

SECONDS = 1800.0
"""s that one step of one server may take: a disk of tens of GiB goes to Glance and back."""
NOTICED = 150.0
"""s until Nova calls a node down that says nothing: service_down_time, and clocks are coarse."""
JOURNAL = "moving"
"""Table of the servers that a drain has shelved and not yet brought back as they were."""
DELETING = "deleting"
"""Nova's word for the task of a server that goes."""
Say = Callable[[str], None]


# ---- what can move, and where to ----------------------------------------------------------

MOVES = frozenset(("ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED", "SHELVED"))
"""Nova's statuses of a server that can leave a node that runs."""
STAYS: Mapping[str, tuple[str, str]] = {
    "RESCUE": ("it is in rescue mode", "openstack server unrescue {id}"),
    "VERIFY_RESIZE": (
        "its resize waits for a word",
        "openstack server resize confirm {id}, or revert",
    ),
    "ERROR": ("it is in the state ERROR", "dozen server explain {id}"),
    "SOFT_DELETED": (
        "it is deleted, and can be restored",
        "openstack server delete --force {id}, or restore",
    ),
}
"""Those that first need somebody: why, and the command. All others are at work."""


class Way(StrEnum):
    """What a move is for the server."""

    LIVE = "goes on running, if the nodes' processors allow"
    STARTS = "is shut down, and starts there with its disk"
    STAYS_OFF = "is off, and will be"
    LOSES_MEMORY = "loses what it has in memory, and is off there"
    SHELVED = "stays shelved, its disk in Glance"
    GOES_ON = "was taken off by a drain that was cut off, and comes back as it was"


@dataclass(frozen=True)
class Room:
    """A node that takes servers: what is free of Placement's resource classes; its traits.

    largest: of a class, what one server may have (max_unit), where that is less.
    """

    name: str
    free: Mapping[str, int]
    traits: frozenset[str]
    largest: Mapping[str, int] = field(default_factory=dict)

    def fits(self, needs: Needs) -> bool:
        enough = all(
            amount <= min(self.free.get(name, 0), self.largest.get(name, amount))
            for name, amount in needs.resources.items()
        )
        return enough and needs.traits <= self.traits

    def less(self, needs: Needs) -> Room:
        free = {name: own - needs.resources.get(name, 0) for name, own in self.free.items()}
        return replace(self, free=free)


@dataclass(frozen=True)
class Needs:
    """What a server asks a node for."""

    resources: Mapping[str, int]
    traits: frozenset[str]


@dataclass(frozen=True)
class Move:
    """A server that moves. where: a node that has room now; the scheduler may choose another."""

    server: Any
    way: Way
    where: str = ""
    ran: bool = False

    def __str__(self) -> str:
        there = f" (there is room on {self.where})" if self.where else ""
        return f"{self.server.name}: {self.way}{there}"


def way(status: str, *, trusting: bool) -> Way:
    """How a server of one of the statuses in MOVES moves."""
    if status == "ACTIVE":
        return Way.LIVE if trusting else Way.STARTS
    if status == "SHELVED":
        return Way.SHELVED
    return Way.STAYS_OFF if status == "SHUTOFF" else Way.LOSES_MEMORY


def obstacle(server: Any) -> str:
    """Why the server cannot move now, and what helps; empty where it can."""
    if server.task_state is None and server.status in MOVES:
        return ""
    if server.task_state is None and server.status in STAYS:
        why, command = STAYS[server.status]
        return f"{server.name}: {why}: {command.format(id=server.id)}"
    doing = server.task_state or server.status
    return f"{server.name}: Nova is at work on it ({doing}): wait until that is done"


def look(
    todo: Sequence[tuple[Any, Needs]], rooms: Sequence[Room], *, trusting: bool
) -> tuple[list[Move], list[str]]:
    """The moves, and why those cannot move that cannot. Each takes room from those after it."""
    moves, obstacles, left = [], [], list(rooms)
    for server, needs in todo:
        if why := obstacle(server):
            obstacles.append(why)
            continue
        kind = way(server.status, trusting=trusting)
        if kind is Way.SHELVED:
            moves.append(Move(server, kind))
            continue
        place = next((n for n, room in enumerate(left) if room.fits(needs)), None)
        if place is None:
            obstacles.append(f"{server.name}: no other node that is up has room for it")
            continue
        moves.append(Move(server, kind, left[place].name, server.status == "ACTIVE"))
        left[place] = left[place].less(needs)
    return moves, obstacles


# ---- from the APIs ------------------------------------------------------------------------


def _connect(cloud: Cloud) -> Any:
    return administrator.connect(cloud)


def _service(sdk: Any, name: str) -> Any:
    return next(iter(sdk.compute.services(binary="nova-compute", host=name)))


def close(cloud: Cloud, row: Row, reason: str) -> None:
    """The node takes no new servers."""
    sdk = _connect(cloud)
    sdk.compute.disable_service(_service(sdk, row.name), disabled_reason=reason)


def undrain(cloud: Cloud, row: Row) -> None:
    """The node takes servers again."""
    sdk = _connect(cloud)
    sdk.compute.enable_service(_service(sdk, row.name))


def plan(cloud: Cloud, row: Row) -> list[Move]:
    """What will become of the node's servers; Problem, before anything is done, if one must stay.

    What an earlier drain had shelved, and was cut off before it started it again, comes first.
    """
    left = left_over(cloud, row.name)
    shelved = [shelved_still(move) for move in left]
    if row.condition in (Condition.DOWN, Condition.JOINING):
        raise Problem(
            f"The node {row.name} is {row.condition}: its servers cannot be asked to move.",
            f"If it does not come back: dozen node evacuate {row.name}",
            detail="\n".join(shelved),
        )
    sdk = _connect(cloud)
    known = reports.providers(sdk)
    rooms = [
        _room(sdk, each.name, known[each.name])
        for each in listing.rows(cloud)
        if each.name != row.name and each.condition is Condition.UP and each.name in known
    ]
    todo = [s for s in departing.servers(sdk, row.name) if s.task_state != DELETING]
    trusting = cloud.settings.nodes.migration and not row.controls
    moves, obstacles = look([(s, _needs(sdk, s)) for s in todo], rooms, trusting=trusting)
    if obstacles:
        raise Problem(
            f"{len(obstacles)} of the {len(todo)} server(s) of {row.name} cannot move. "
            "Nothing was done.",
            "Mend that, join another node, or delete the servers; then drain again.",
            detail="\n".join([*obstacles, *shelved]),
            code=Exit.UNFIT,
        )
    return [*left, *moves]


def drain(cloud: Cloud, row: Row, moves: Sequence[Move], say: Say) -> int:
    """Close the node and move its servers to others; returns how many were moved.

    Where one does not, those after it stay where they are; the same again goes on with them.
    """
    sdk = _connect(cloud)
    close(cloud, row, "drained")
    for number, move in enumerate(moves):
        try:
            _move(cloud, sdk, row.name, move, say)
        except (Problem, HttpException) as error:
            problem = error if isinstance(error, Problem) else Problem(_refusal(error))
            raise Problem(
                f"{number} of {len(moves)} server(s) moved; then {move.server.name} did not."
                f" {problem.what} {row.name} takes no new servers.",
                f"{problem.mend}\nThen run the same again: it goes on with the rest. To let the "
                f"node take servers again: {cloud.command('node', 'undrain', row.name)}".strip(),
                detail=problem.detail,
            ) from error
    if came := [s for s in departing.servers(sdk, row.name) if s.task_state != DELETING]:
        raise Problem(
            f"{_names(came)} came to {row.name} while it was drained.",
            "Run the same again.",
        )
    return len(moves)


def _refusal(error: HttpException) -> str:
    return f"Nova refuses: {error.details or error}"


def _names(servers: Iterable[Any]) -> str:
    return ", ".join(server.name for server in servers)


def _placement(sdk: Any, path: str, key: str) -> Any:
    return sdk.placement.get(path, microversion="1.6").json()[key]


def _room(sdk: Any, name: str, provider: str) -> Room:
    """Of a node, by Placement, which calls it `provider`."""
    (found,) = _placement(sdk, f"/resource_providers?name={provider}", "resource_providers")
    path = f"/resource_providers/{found['uuid']}"
    used = _placement(sdk, f"{path}/usages", "usages")
    inventories = _placement(sdk, f"{path}/inventories", "inventories")
    free = {
        kind: int((each["total"] - each["reserved"]) * each["allocation_ratio"]) - used[kind]
        for kind, each in inventories.items()
    }
    largest = {kind: each["max_unit"] for kind, each in inventories.items()}
    return Room(name, free, frozenset(_placement(sdk, f"{path}/traits", "traits")), largest)


def _needs(sdk: Any, server: Any) -> Needs:
    """What it has now, by Placement; the traits that its flavor and its image require."""
    allocations = _placement(sdk, f"/allocations/{server.id}", "allocations")
    resources: Counter[str] = Counter()
    for allocation in allocations.values():
        resources.update(allocation["resources"])
    asked = dict(server.flavor.extra_specs or {})
    with suppress(SDKException, AttributeError):  # an image that is gone, or none
        asked |= sdk.image.get_image(server.image.id).properties or {}
    traits = (
        name.removeprefix("trait:")
        for name, value in asked.items()
        if name.startswith("trait:") and value == "required"
    )
    return Needs(resources, frozenset(traits))


# ---- a server that is under way belongs to no node; who drains again must know of it -----


def _note(cloud: Cloud, server: str, entry: Mapping[str, Any] | None) -> None:
    with changing(cloud, JOURNAL) as rows:
        rows[:] = [row for row in rows if row["server"] != server]
        if entry:
            rows.append({"server": server, **entry})


def left_over(cloud: Cloud, node: str) -> list[Move]:
    """Servers that a drain of the node has taken from it, and not brought back as they were."""
    with changing(cloud, JOURNAL) as rows:
        noted = [row for row in rows if row["node"] == node]
    sdk, left = _connect(cloud), []
    for row in noted:
        found = None
        with suppress(NotFoundException):
            found = sdk.compute.get_server(row["server"])
        if found and found.compute_host == node:
            continue  # it never left
        if found and (
            found.status == "SHELVED_OFFLOADED" or (found.status == "ACTIVE" and not row["ran"])
        ):
            left.append(Move(found, Way.GOES_ON, ran=row["ran"]))
        else:
            _note(cloud, row["server"], None)
    return left


def shelved_still(move: Move) -> str:
    """What to do by hand for a server of `left_over`."""
    doing = "unshelve" if move.server.status == "SHELVED_OFFLOADED" else "stop"
    return (
        f"{move.server.name}: was taken off by a drain that was cut off: "
        f"openstack server {doing} {move.server.id}"
    )


def _move(cloud: Cloud, sdk: Any, node: str, move: Move, say: Say) -> None:
    """Problem or HttpException if the server is not elsewhere then."""
    server = move.server
    if move.way is Way.SHELVED:
        sdk.compute.shelve_offload_server(server)
        _until(sdk, server, {"SHELVED_OFFLOADED"})
        say(f"{server.name}: stays shelved, its disk is in Glance")
        return
    if move.way is Way.LIVE and _move_live(sdk, server, say):
        return
    if move.way is not Way.GOES_ON:
        say(f"{server.name}: shut down, its disk goes to Glance")
        _note(cloud, server.id, {"node": node, "ran": move.ran})
        try:
            sdk.compute.shelve_server(server)
            _until(sdk, server, {"SHELVED_OFFLOADED"})
        except (Problem, HttpException):
            _start_again(sdk, server, ran=move.ran)
            raise
    back = {"ACTIVE", "SHELVED_OFFLOADED"}
    if _until(sdk, server, back) != "ACTIVE":
        say(f"{server.name}: starts on another node")
        sdk.compute.unshelve_server(server)
    if _until(sdk, server, back) != "ACTIVE":
        raise Problem("No node has room for it now: it is shelved, its disk is kept in Glance.")
    if not move.ran:
        sdk.compute.stop_server(server)
    _note(cloud, server.id, None)
    here = sdk.compute.get_server(server.id)
    say(f"{server.name}: is on {here.compute_host}")


def _start_again(sdk: Any, server: Any, *, ran: bool) -> None:
    """A server whose disk did not get to Glance runs on where it was."""
    with suppress(SDKException):
        now = sdk.compute.get_server(server.id)
        if ran and now.task_state is None and now.status == "SHUTOFF":
            sdk.compute.start_server(server)
        elif ran and now.task_state is None and now.status == "ACTIVE" and now.power_state != 1:
            sdk.compute.reboot_server(server, "HARD")  # Nova has not seen yet that it is off


def _move_live(sdk: Any, server: Any, say: Say) -> bool:
    """False if the server goes on running where it is."""
    try:
        sdk.compute.live_migrate_server(server, block_migration="auto")
    except HttpException as refused:
        say(f"{server.name}: cannot move while it runs ({refused.details})")
        return False
    if _until(sdk, server, {"ACTIVE", "ERROR"}) == "ERROR":
        # Nova says so of one that still runs on its node.
        sdk.compute.reset_server_state(server, "active")
    here = sdk.compute.get_server(server.id).compute_host
    moved = bool(here != server.compute_host)
    now = f"went on running, and is on {here}" if moved else "cannot move while it runs"
    say(f"{server.name}: {now}")
    return moved


def _until(sdk: Any, server: Any, wanted: set[str]) -> str:
    """The server's status once it has come to rest; Problem if that is none of those wanted."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        now = sdk.compute.get_server(server.id)
        if now.task_state is None:
            if now.status in wanted:
                return str(now.status)
            raise Problem(
                f"The server {server.name} did not move: it is {now.status}.",
                f"See: dozen server explain {server.name}",
                detail=str((now.fault or {}).get("message", "")),
            )
        time.sleep(1)
    raise Problem(f"The server {server.name} did not move within {SECONDS:.0f} s.")


def _until_down(cloud: Cloud, row: Row, say: Say) -> Row:
    """The row of a silent node once Nova, too, calls it down, or once it is heard of again."""
    end = time.monotonic() + NOTICED
    if row.condition is not Condition.DOWN:
        say(f"{row.name} is silent; waiting until Nova calls it down, a minute and a half")
    while row.silent and row.condition is not Condition.DOWN and time.monotonic() < end:
        time.sleep(2)
        row = listing.find(cloud, row.name)
    return row


def evacuate(cloud: Cloud, row: Row, say: Say) -> int:
    """Rebuild the servers of a lost node elsewhere, from their images; returns how many.

    Their disks were on that node: what they had written is lost. When the node comes back it
    removes what it has of them.
    """
    if row.silent:
        row = _until_down(cloud, row, say)
    if row.condition is not Condition.DOWN:
        raise Problem(
            f"The node {row.name} is {row.condition}; only servers of a lost one are rebuilt.",
            "If it was lost just now, run this again in two minutes."
            f" To move servers with their disks: dozen node drain {row.name}",
            code=Exit.USAGE,
        )
    sdk = _connect(cloud)
    there = departing.servers(sdk, row.name)
    shelved = [s for s in there if s.status == "SHELVED"]
    todo = [s for s in there if s not in shelved and s.task_state != DELETING]
    for server in there:
        if server.task_state == DELETING:
            say(f"{server.name}: was being deleted, and now is")
            sdk.compute.delete_server(server)  # which needs no node that is down
        elif server in todo:
            say(f"{server.name}: rebuilt from its image")
            _rebuild(sdk, server)
    for server in todo:
        _until(sdk, server, {"ACTIVE", "SHUTOFF"})
        if server.status == "ACTIVE":
            # Nova leaves it stopped (microversion 2.95).
            sdk.compute.start_server(server)
            _until(sdk, server, {"ACTIVE"})
        here = sdk.compute.get_server(server.id)
        say(f"{server.name}: is on {here.compute_host}")
    if shelved:
        raise Problem(
            f"{_names(shelved)}: shelved, not rebuilt, since their disks are in Glance.",
            "Make new servers of the images NAME-shelved, then delete these.",
        )
    return len(todo)


def _rebuild(sdk: Any, server: Any) -> None:
    """Let Nova begin; it refuses what is paused, suspended or rescued, all of which is over."""
    try:
        sdk.compute.evacuate_server(server)
    except ConflictException:
        sdk.compute.reset_server_state(server, "error")
        sdk.compute.evacuate_server(server)
