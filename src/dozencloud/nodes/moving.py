"""Servers leave a node: while it runs by shelving, after it was lost by rebuilding.

Nodes need not trust each other, so no disk goes from one to another: a server that moves is shut
down, its disk goes to Glance as an image, and it starts elsewhere from that. It keeps its
addresses, its name and its data. Where nodes trust each other, one that runs is migrated live.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from openstack.exceptions import ConflictException, HttpException

from dozencloud import seed
from dozencloud.cloud import Cloud
from dozencloud.errors import Exit, Problem
from dozencloud.nodes import listing
from dozencloud.nodes.listing import Condition, Row
from dozencloud.secret import Secrets

SECONDS = 1800.0
"""s that one step of one server may take: a disk of tens of GiB goes to Glance and back."""
NOTICED = 150.0
"""s until Nova calls a node down that says nothing: service_down_time, and clocks are coarse."""
DELETING = "deleting"
"""Nova's word for the task of a server that goes."""
Say = Callable[[str], None]


def _connect(cloud: Cloud) -> Any:
    return seed.connect(cloud, Secrets(cloud.etc / "secrets.json"))


def _service(sdk: Any, name: str) -> Any:
    return next(iter(sdk.compute.services(binary="nova-compute", host=name)))


def _servers(sdk: Any, name: str) -> list[Any]:
    """Those on a node, of all projects."""
    return [s for s in sdk.compute.servers(all_projects=True) if s.compute_host == name]


def close(cloud: Cloud, row: Row, reason: str) -> None:
    """The node takes no new servers."""
    sdk = _connect(cloud)
    sdk.compute.disable_service(_service(sdk, row.name), disabled_reason=reason)


def undrain(cloud: Cloud, row: Row) -> None:
    """The node takes servers again."""
    sdk = _connect(cloud)
    sdk.compute.enable_service(_service(sdk, row.name))


def drain(cloud: Cloud, row: Row, say: Say) -> int:
    """Close the node and move its servers to others; returns how many were moved.

    A server for which no other node has room is left shelved: its disk is in Glance, nothing is
    lost, and `openstack server unshelve` starts it once there is room.
    """
    if row.condition in (Condition.DOWN, Condition.JOINING):
        raise Problem(
            f"The node {row.name} is {row.condition}: its servers cannot be asked to move.",
            f"If it does not come back: dozen node evacuate {row.name}",
        )
    sdk = _connect(cloud)
    todo = [s for s in _servers(sdk, row.name) if s.task_state != DELETING]
    others = [
        r.name for r in listing.rows(cloud) if r.name != row.name and r.condition is Condition.UP
    ]
    if todo and not others:
        raise Problem(
            f"There is no other node that could take the {len(todo)} server(s) of {row.name}.",
            "Join another one, or delete the servers.",
            code=Exit.UNFIT,
        )
    close(cloud, row, "drained")
    trusting = cloud.settings.nodes.migration and not row.controls
    stuck = [server for server in todo if not _move(sdk, server, say, trusting=trusting)]
    if stuck:
        raise Problem(
            f"No node has room for {_names(stuck)}: their disks are kept in Glance.",
            "When there is room: openstack server unshelve NAME",
        )
    return len(todo)


def _names(servers: Iterable[Any]) -> str:
    return ", ".join(server.name for server in servers)


def _move(sdk: Any, server: Any, say: Say, *, trusting: bool) -> bool:
    """False if the server could not be started elsewhere. trusting: live migration may do."""
    if server.status in ("ERROR", "SHELVED_OFFLOADED"):
        if server.status == "ERROR":
            raise Problem(
                f"The server {server.name} is in the state ERROR and cannot be moved.",
                f"See: dozen server explain {server.name}. Mend or delete it, then drain again.",
            )
        return True
    ran = server.status == "ACTIVE"
    if ran and trusting and _move_live(sdk, server, say):
        return True
    if server.status != "SHELVED":
        say(f"{server.name}: shut down, its disk goes to Glance")
        sdk.compute.shelve_server(server)
    else:
        sdk.compute.shelve_offload_server(server)
    _until(sdk, server, {"SHELVED_OFFLOADED"})
    say(f"{server.name}: starts on another node")
    sdk.compute.unshelve_server(server)
    if _until(sdk, server, {"ACTIVE", "SHELVED_OFFLOADED"}) != "ACTIVE":
        return False
    if not ran:
        sdk.compute.stop_server(server)
    here = sdk.compute.get_server(server.id)
    say(f"{server.name}: is on {here.compute_host}")
    return True


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
    there = _servers(sdk, row.name)
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
