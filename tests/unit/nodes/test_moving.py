"""A node is emptied: looked at first, by a table of all of Nova's states, and gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nova.api.openstack.common import _STATE_MAP
from nova.compute.api import API
from openstack.exceptions import ConflictException, ForbiddenException, NotFoundException

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import changing
from dozencloud.errors import Exit, Problem
from dozencloud.hooks.nova import quotas
from dozencloud.nodes import listing, moving
from dozencloud.nodes.listing import Condition, Row
from dozencloud.nodes.moving import Needs, Room, Way, look, obstacle

ARM = frozenset(("COMPUTE_ARCH_AARCH64",))
SMALL = Needs({"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 1}, ARM)
PI = Room("pi-2", {"VCPU": 64, "MEMORY_MB": 1024, "DISK_GB": 20}, ARM)

STATES = sorted(
    {
        (status, None if task == "default" else task)
        for tasks in _STATE_MAP.values()
        for task, status in tasks.items()
    },
    key=str,
)
"""Every status that Nova shows, with the task that makes it."""


def server(name: str, status: str = "ACTIVE", task: str | None = None) -> Any:
    return SimpleNamespace(
        **{"id": f"id-{name}", "name": name, "status": status, "task_state": task},
        **{"compute_host": "pi-1", "power_state": 1, "fault": None, "image": None},
        flavor=SimpleNamespace(extra_specs={"trait:CUSTOM_FAST": "required"}),
    )


@pytest.mark.parametrize(("status", "task"), STATES)
def test_every_state_of_novas_is_known(status: str, task: str | None) -> None:
    """It moves at rest in five of them; of all others is said why not, and what helps."""
    said = obstacle(server("web", status, task))
    if task is None and status in ("ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED", "SHELVED"):
        assert said == ""
    elif task is None and status in ("RESCUE", "VERIFY_RESIZE", "ERROR", "SOFT_DELETED"):
        assert "id-web" in said
    else:
        assert said.startswith("web: Nova is at work on it (")


@pytest.mark.parametrize(
    ("status", "trusting", "way"),
    [
        ("ACTIVE", False, Way.STARTS),
        ("ACTIVE", True, Way.LIVE),
        ("SHUTOFF", True, Way.STAYS_OFF),
        ("PAUSED", False, Way.LOSES_MEMORY),
        ("SUSPENDED", True, Way.LOSES_MEMORY),
        ("SHELVED", False, Way.SHELVED),
    ],
)
def test_what_a_move_is(status: str, trusting: bool, way: Way) -> None:
    ((move,), obstacles) = look([(server("web", status), SMALL)], [PI], trusting=trusting)
    assert (move.way, move.ran, obstacles) == (way, status == "ACTIVE", [])


def test_each_takes_room_from_those_after_it() -> None:
    large = Needs({"VCPU": 1, "MEMORY_MB": 900, "DISK_GB": 1}, ARM)
    foreign = Needs({"VCPU": 1}, frozenset(("COMPUTE_ARCH_PPC64LE",)))
    todo = [(server(n), needs) for n, needs in (("a", large), ("b", SMALL), ("c", foreign))]
    moves, obstacles = look(todo, [PI], trusting=False)
    assert [str(move) for move in moves] == [
        "a: is shut down, and starts there with its disk (there is room on pi-2)"
    ]
    assert obstacles == [f"{name}: no other node that is up has room for it" for name in "bc"]
    shelved = [(server("s", "SHELVED"), large)]
    assert look(shelved, [], trusting=False)[0][0].way is Way.SHELVED


class Nova:
    """As much of a cloud as a drain sees; the real thing needs two machines and minutes.

    refuses: calls that end in an error from the second server on.
    """

    def __init__(self, *servers: Any) -> None:
        self.all = {each.id: each for each in servers}
        self.disabled, self.refuses = False, ""
        self.calls: list[str] = []
        self.compute, self.image = self, self

    def services(self, **_: object) -> Iterator[Any]:
        yield SimpleNamespace(host="pi-1")

    def disable_service(self, *_: object, disabled_reason: str) -> None:
        self.disabled = True

    def hypervisors(self, **_: object) -> Iterator[Any]:
        for name in ("pi-1", "pi-2"):
            yield SimpleNamespace(name=f"{name}.lan", service_details={"host": name})

    def servers(self, **_: object) -> list[Any]:
        return list(self.all.values())

    def get_server(self, id: str) -> Any:
        if id not in self.all:
            raise NotFoundException
        return self.all[id]

    def _do(self, call: str, found: Any) -> None:
        self.calls.append(f"{call} {found.name}")
        if call == self.refuses and found.name != "a":
            raise ForbiddenException("long", details="Quota exceeded for ram")

    def shelve_server(self, found: Any) -> None:
        self._do("shelve", found)
        found.status, found.compute_host = "SHELVED_OFFLOADED", None

    shelve_offload_server = shelve_server

    def unshelve_server(self, found: Any) -> None:
        self._do("unshelve", found)
        found.status, found.compute_host = "ACTIVE", "pi-2"

    def stop_server(self, found: Any) -> None:
        found.status = "SHUTOFF"


def row(name: str = "pi-1") -> Row:
    return Row(name, "compute", "", Condition.UP, False, (), None, None)


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    made = Cloud(tmp_path)
    made.lib.mkdir(parents=True)
    return made


def journal(cloud: Cloud) -> list[dict[str, Any]]:
    with changing(cloud, moving.JOURNAL) as rows:
        return list(rows)


def drain(cloud: Cloud, nova: Nova, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of the moves."""
    monkeypatch.setattr(moving, "_connect", lambda _: nova)
    monkeypatch.setattr(moving, "_room", lambda _, name, __: Room(name, PI.free, ARM))
    monkeypatch.setattr(moving, "_needs", lambda *_: SMALL)
    monkeypatch.setattr(listing, "rows", lambda _: [row(), row("pi-2")])
    said: list[str] = []
    moving.drain(cloud, row(), moving.plan(cloud, row()), said.append)
    return said


def test_nothing_is_done_where_one_cannot_move(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    nova = Nova(server("a"), server("b", "RESCUE"), server("c", "VERIFY_RESIZE"))
    with pytest.raises(Problem) as refused:
        drain(cloud, nova, monkeypatch)
    assert refused.value.what == "2 of the 3 server(s) of pi-1 cannot move. Nothing was done."
    assert refused.value.code is Exit.UNFIT
    assert [line[:2] for line in refused.value.detail.splitlines()] == ["b:", "c:"]
    assert (nova.calls, nova.disabled) == ([], False)


def test_all_go_and_keep_their_state(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    nova = Nova(server("a"), server("b", "SHUTOFF"), server("c", "SHELVED"))
    drain(cloud, nova, monkeypatch)
    assert [each.status for each in nova.all.values()] == [
        *("ACTIVE", "SHUTOFF", "SHELVED_OFFLOADED")
    ]
    assert nova.disabled
    assert "unshelve c" not in nova.calls
    assert journal(cloud) == []


@pytest.mark.parametrize("refuses", ["shelve", "unshelve"])
def test_what_is_half_done_is_said_and_gone_on_with(
    refuses: str, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    nova = Nova(server("a"), server("b", "SHUTOFF"), server("c"))
    nova.refuses = refuses
    with pytest.raises(Problem) as stopped:
        drain(cloud, nova, monkeypatch)
    assert "1 of 3 server(s) moved; then b did not. Nova refuses: Quota exceeded for ram" in (
        stopped.value.what
    )
    assert "run the same again" in stopped.value.mend
    assert "undrain pi-1" in stopped.value.mend
    nova.refuses = ""
    drain(cloud, nova, monkeypatch)
    assert {each.name: (each.status, each.compute_host) for each in nova.all.values()} == {
        "a": ("ACTIVE", "pi-2"),
        "b": ("SHUTOFF", "pi-2"),
        "c": ("ACTIVE", "pi-2"),
    }
    assert journal(cloud) == []


def test_what_its_owner_removed_meanwhile_is_forgotten(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving._note(cloud, "id-gone", {"node": "pi-1", "ran": True})
    other = {"node": "pi-3", "ran": True}
    moving._note(cloud, "id-of-another-node", other)
    drain(cloud, Nova(), monkeypatch)
    assert journal(cloud) == [{"server": "id-of-another-node", **other}]


def test_one_that_was_off_is_off_again_where_the_drain_was_cut_off_before_that(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    off, ran = server("off"), server("ran")
    off.compute_host = ran.compute_host = "pi-2"
    for each in (off, ran):
        moving._note(cloud, each.id, {"node": "pi-1", "ran": each is ran})
    nova = Nova(off, ran)
    drain(cloud, nova, monkeypatch)
    assert (off.status, ran.status, nova.calls) == ("SHUTOFF", "ACTIVE", [])
    assert journal(cloud) == []


def test_what_an_earlier_drain_left_is_named_where_nothing_can_be_done(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = server("away", "SHELVED_OFFLOADED")
    away.compute_host = None
    moving._note(cloud, away.id, {"node": "pi-1", "ran": True})
    with pytest.raises(Problem) as refused:
        drain(cloud, Nova(away, server("b", "RESCUE")), monkeypatch)
    assert "openstack server unshelve id-away" in refused.value.detail
    down = replace(row(), condition=Condition.DOWN)
    with pytest.raises(Problem) as refused:
        moving.plan(cloud, down)
    assert "openstack server unshelve id-away" in refused.value.detail


def test_what_a_server_needs_and_a_node_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Placement's answers (its API reference), for a server with CPUs of its own."""
    answers = {
        "/resource_providers?name=pi-2.lan": {"resource_providers": [{"uuid": "u"}]},
        "/resource_providers/u/usages": {"usages": {"PCPU": 1, "MEMORY_MB": 100}},
        "/resource_providers/u/inventories": {
            "inventories": {
                "PCPU": {"total": 4, "reserved": 0, "allocation_ratio": 1.0, "max_unit": 2},
                "MEMORY_MB": {
                    **{"total": 1000, "reserved": 500, "allocation_ratio": 1.0},
                    "max_unit": 1000,
                },
            }
        },
        "/resource_providers/u/traits": {"traits": ["CUSTOM_FAST"]},
        "/allocations/id-a": {
            "allocations": {"p": {"resources": {"PCPU": 2, "MEMORY_MB": 400}}},
        },
    }
    sdk = SimpleNamespace(
        placement=SimpleNamespace(
            get=lambda path, microversion: SimpleNamespace(json=lambda: answers[path])
        )
    )
    room, needs = moving._room(sdk, "pi-2", "pi-2.lan"), moving._needs(sdk, server("a"))
    assert needs == Needs({"PCPU": 2, "MEMORY_MB": 400}, frozenset(("CUSTOM_FAST",)))
    assert room.fits(needs)
    assert not room.fits(Needs({"PCPU": 3}, frozenset()))
    assert not room.less(needs).fits(needs)
    assert not replace(room, traits=ARM).fits(needs)


def test_an_administrator_brings_servers_back_without_a_quota(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not so their owners."""

    def exceeded(*_: object) -> None:
        raise ConflictException("Quota exceeded")

    monkeypatch.setattr(API, "_check_quota_unshelve_offloaded", staticmethod(exceeded))
    quotas.use()
    API._check_quota_unshelve_offloaded(SimpleNamespace(is_admin=True), None, None)
    with pytest.raises(ConflictException):
        API._check_quota_unshelve_offloaded(SimpleNamespace(is_admin=False), None, None)
