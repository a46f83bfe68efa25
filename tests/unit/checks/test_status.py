"""What `dozen status` counts, and for whom."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dozencloud.checks.reachable import Routers
from dozencloud.checks.status import (
    SUPERVISOR,
    Seen,
    ServiceStatus,
    Status,
    SupervisorStatus,
    attribute,
    losses,
    make,
    memory,
    parse_pss,
)
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Role
from dozencloud.supervision.client import Process
from dozencloud.supervision.service import Definition, Service

ROLLUP = """\
55d4c0000000-7ffd000000 ---p 00000000 00:00 0                            [rollup]
Rss:              120000 kB
Pss:               51200 kB
Pss_Dirty:         40000 kB
Pss_Anon:          39000 kB
Shared_Clean:      60000 kB
"""
ROOTS = {10: SUPERVISOR, 20: "nova-compute", 30: "ovn-agent"}


def test_pss_is_in_mib() -> None:
    assert parse_pss(ROLLUP) == 50.0
    assert parse_pss("Rss: 1 kB\nPss_Dirty: 7 kB\n") == 0.0


def test_memory_of_a_live_process_and_of_one_that_has_ended() -> None:
    assert 1 < memory([os.getpid()]) < 4096
    assert memory([2**22 + 1]) == 0.0  # above the largest pid_max (proc(5))


@pytest.mark.parametrize(
    ("process", "owner"),
    [
        (Seen(20, 10, True, "nova-compute"), "nova-compute"),
        (Seen(10, 1, True), SUPERVISOR),
        # A worker that a forked service forked: its environment is the supervisor's.
        (Seen(21, 20, True), "nova-compute"),
        # nginx overwrites its environment, its parent tells.
        (Seen(11, 10), SUPERVISOR),
        (Seen(22, 21), "nova-compute"),
        # Handed to init: privsep daemons and haproxy name their service.
        (Seen(40, 1, True, "ovn-agent"), "ovn-agent"),
        (Seen(41, 1, True, "gone-service"), SUPERVISOR),
        (Seen(42, 1, True), SUPERVISOR),
        # Other programs, one of them under some supervisor of its own.
        (Seen(50, 1), None),
        (Seen(51, 1, False, "ovn-agent"), None),
    ],
)
def test_whose_process_it_is(process: Seen, owner: str | None) -> None:
    others = (Seen(1, 0), Seen(10, 1, True), Seen(20, 10, True), Seen(21, 20, True))
    seen = {each.pid: each for each in (*others, process)}
    assert attribute(seen, ROOTS).get(process.pid) == owner


def test_a_pid_used_again_cannot_make_an_endless_walk() -> None:
    assert attribute({7: Seen(7, 8), 8: Seen(8, 7)}, ROOTS) == {}


def service(name: str) -> Service:
    definition = Definition(name, name.title(), lambda plan: service(name), frozenset(Role))
    return Service(definition, ["true"], lambda: True, listens="/x")


@pytest.mark.parametrize(
    ("process", "state", "pid", "uptime", "restarts", "tail"),
    [
        (Process("a", "running", 7, 900.0, 3, ""), "running", 7, 100, 2, ""),
        (Process("a", "running", 7, 1001.0, 1, ""), "running", 7, 0, 0, ""),
        (Process("a", "fatal", 0, 900.0, 7, ""), "fatal", 0, 0, 6, "boom"),
        (Process("a", "backoff", 0, 900.0, 2, ""), "backoff", 0, 0, 1, "boom"),
        (Process("a", "starting", 7, 999.0, 2, "", dying=True), "starting", 7, 1, 1, "boom"),
        (Process("a", "stopped", 0, 0.0, 0, ""), "stopped", 0, 0, 0, ""),
        (None, "stopped", 0, 0, 0, ""),
    ],
)
def test_one_row(
    process: Process | None, state: str, pid: int, uptime: int, restarts: int, tail: str
) -> None:
    row = make(service("a"), process, 1.5, 1000.0, "boom")
    assert row == ServiceStatus(
        "a", "A", state, pid, 1.5, uptime, restarts, "/x", bool(tail), last_lines=tail
    )


def example(*states: str) -> Status:
    rows = tuple(
        ServiceStatus(f"s{n}", "S", state, 0, 10.04, 0, 0, "") for n, state in enumerate(states)
    )
    return Status(
        "dozen", "https://x", rows, SupervisorStatus("running", 5, 4.0, 9), 2, 300.0, 5000
    )


def test_json_has_sums_and_every_service() -> None:
    data = example("running", "fatal").to_json()
    assert [(s["name"], s["state"]) for s in data["services"]] == [
        ("s0", "running"),
        ("s1", "fatal"),
    ]
    assert data["memory_mib"] == {"control_plane": 24.1, "servers": 300.0, "total": 324.1}
    assert data["servers"] == {"count": 2, "memory_mib": 300.0}
    assert data["supervisor"]["pid"] == 5


def test_all_running() -> None:
    assert example("running", "running").all_running
    first = example("running", "starting")
    assert first.all_running
    again = replace(first.services[1], restarts=1)
    assert not replace(first, services=(first.services[0], again)).all_running
    assert not example("running", "fatal").all_running


def test_faults_say_what_a_running_service_lacks_or_else_what_people_feel() -> None:
    well = example("running", "running")
    assert well.faults == {}
    silent = replace(well, routers=Routers(("198.19.1.2",), ("198.19.1.2",)))
    no_answer = (
        "No answer came from the router with the address 198.19.1.2, so floating IPs behind it"
        " cannot be reached."
    )
    assert silent.faults == {no_answer: ("restart", "ovs-switch", "ovn-controller")}
    one_of_two = Routers(("198.19.1.2", "198.19.1.3"), ("198.19.1.2",))
    assert replace(well, routers=one_of_two).faults == {}
    lacking = replace(well.services[0], fault="its bridge is down")
    both = replace(silent, services=(lacking, well.services[1]))
    assert both.faults == {"s0 runs, but its bridge is down.": ("start",)}
    assert both.to_json()["faults"] == ["s0 runs, but its bridge is down."]


def test_losses_count_servers_and_images_only(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    uuid = "01234567-89ab-cdef-0123-456789abcde"
    for name in ("_base", "locks", f"{uuid}1"):
        (cloud.lib / "compute" / "instances" / name).mkdir(parents=True)
    (cloud.lib / "glance" / "images").mkdir(parents=True)
    for number in (1, 2):
        (cloud.lib / "glance" / "images" / f"{uuid}{number}").touch()
    assert losses(cloud).startswith("1 server and 2 images,")
    assert losses(Cloud(tmp_path / "none")).startswith("0 servers and 0 images,")
