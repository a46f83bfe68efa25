"""Up again, stop, start, restart, and everything that is killed.

Only a whole cloud shows that it heals whichever of its services is killed, and that servers go on.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from testcloud import IMAGE, Guest, TestCloud, eventually

from dozencloud.cloud.plan import Plan
from dozencloud.cloud.state import State
from dozencloud.errors import Exit
from dozencloud.host import processes
from dozencloud.supervision.service import Service

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

HEALED = 30.0
"""s until a killed service must work again: supervisor's own second, and the longest start."""

SETTLED = 5.0
"""s after which a service that cannot start would have been restarted again."""


def qemu(cloud: TestCloud) -> set[int]:
    return set(processes.find(cloud.cloud, servers=True))


def all_run(cloud: TestCloud) -> None:
    """Every service runs; the supervisor says so of one that has lived for two seconds."""

    def running() -> bool:
        return {s["state"] for s in cloud.status()["services"]} == {"running"}

    eventually(running, seconds=4, what="every service runs")


def test_up_again_changes_nothing(cloud: TestCloud) -> None:
    before = cloud.pids()
    began = time.monotonic()
    again = cloud.dozen("up")
    assert time.monotonic() - began < 5
    assert "Nothing to change" in again.stdout
    assert cloud.pids() == before


def test_the_image_of_the_cloud_is_protected_and_up_mends_it(cloud: TestCloud) -> None:
    """An image whose kernel is not there looks active, and nobody can start it."""
    images = cloud.sdk.image
    tiny = images.get_image(images.find_image(IMAGE).id)
    for name in (IMAGE, f"{IMAGE}-kernel", f"{IMAGE}-initrd"):
        refused = cloud.dozen("openstack", "image", "delete", name, code=1)
        assert "protected" in refused.stderr
    images.update_image(tiny.id, kernel_id=str(uuid.uuid4()))
    assert "Nothing to change" not in cloud.dozen("up").stdout
    assert images.get_image(tiny.id).kernel_id == tiny.kernel_id
    assert "Nothing to change" in cloud.dozen("up").stdout


def test_the_image_of_a_release_before_gets_what_other_images_have(cloud: TestCloud) -> None:
    images = cloud.sdk.image
    tiny = images.get_image(images.find_image(IMAGE).id)
    names = ("img_hv_type", "hw_vm_mode")
    known = {**tiny.properties, **tiny.to_dict(original_names=True)}
    assert [known[name] for name in names] == ["qemu", "hvm"]
    unset = [word for name in names for word in ("--property", name)]
    cloud.dozen("openstack", "image", "unset", *unset, tiny.id)
    State.of(cloud.cloud).set("image", "by another release")
    assert "Nothing to change" not in cloud.dozen("up").stdout
    now = images.get_image(images.find_image(IMAGE).id)
    assert now.to_dict() | {"updated_at": ""} == tiny.to_dict() | {"updated_at": ""}
    assert "Nothing to change" in cloud.dozen("up").stdout


def test_up_makes_the_administrators_password_that_of_the_file_again(cloud: TestCloud) -> None:
    identity = cloud.sdk.identity
    identity.update_user(identity.find_user("admin"), password="forgotten")
    refused = cloud.dozen("node", "list", code=None)
    assert "does not take its administrator's password" in refused.stderr
    assert refused.stderr.rstrip().endswith(cloud.cloud.command("up"))
    assert "Nothing to change" not in cloud.dozen("up").stdout
    cloud.dozen("node", "list")
    assert "Nothing to change" in cloud.dozen("up").stdout


def test_status_counts_every_service_and_its_memory(cloud: TestCloud) -> None:
    status = cloud.status()
    services = status["services"]
    assert {s["state"] for s in services} == {"running"}
    assert {s["name"] for s in services} == set(cloud.services())
    assert all(s["pid"] and s["memory_mib"] > 0 for s in services)
    total = sum(s["memory_mib"] for s in services) + status["supervisor"]["memory_mib"]
    assert status["memory_mib"]["control_plane"] == pytest.approx(total, abs=5)
    assert status["servers"]["count"] >= 1
    assert status["memory_mib"]["servers"] > 50


def test_restart_replaces_one_process_and_leaves_servers_alone(
    cloud: TestCloud, first: Guest
) -> None:
    before, servers = cloud.pids(), qemu(cloud)
    cloud.dozen("restart", "nova-compute")
    after = cloud.pids()
    assert {name for name in before if before[name] != after[name]} == {"nova-compute"}
    assert qemu(cloud) == servers
    assert first.answers()


def test_stop_leaves_nothing_running_and_start_brings_all_back(
    cloud: TestCloud, first: Guest
) -> None:
    first.run("echo kept > /home/dozen/kept && sync")
    before = {s.id: s.status for s in cloud.sdk.compute.servers()}
    assert before[first.id] == "ACTIVE"

    try:
        cloud.dozen("stop")
        assert inhabitants(cloud) == {}
        assert list(processes.find(cloud.cloud)) == []
        stopped = cloud.dozen("status", code=Exit.DEGRADED)
        assert "The cloud is stopped." in stopped.stdout
        assert "already" in cloud.dozen("stop").stdout
    finally:
        cloud.dozen("start")
    assert {s.id: s.status for s in cloud.sdk.compute.servers()} == before
    assert cloud.first() == first
    first.wait(seconds=60)
    assert first.run("cat /home/dozen/kept") == "kept"
    assert "Nothing to change" in cloud.dozen("start").stdout


def test_ps_and_top_show_services_by_their_names(cloud: TestCloud) -> None:
    """Python services, forks of one parent; what is started as a program has its own name."""
    plan = Plan.kept(cloud.cloud)
    pids = cloud.pids()
    ours = [name for name, each in cloud.services().items() if each.command[0] == plan.python]
    assert len(ours) > 10
    for name in set(ours) & set(pids):
        place = Path(f"/proc/{pids[name]}")
        # 15 bytes (proc(5)); a parent of several workers adds to it.
        assert (place / "comm").read_text().strip().startswith(name[:15])
        assert (place / "cmdline").read_text().startswith(name)


def inhabitants(cloud: TestCloud) -> dict[int, str]:
    """Every process in the cloud's network namespace, whoever started it."""
    where = Path("/run/netns", str(cloud.cloud.namespace)).stat().st_ino
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "ns" / "net").stat().st_ino == where:
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def test_every_killed_service_comes_back_by_itself(cloud: TestCloud, first: Guest) -> None:
    """SIGKILL for one after the other; each has a new pid and answers within seconds."""
    servers = qemu(cloud)
    restarts = {s["name"]: s["restarts"] for s in cloud.status()["services"]}
    seconds: dict[str, float] = {}
    late: list[str] = []
    for name, service in cloud.services().items():
        old = cloud.pids()[name]
        os.kill(old, signal.SIGKILL)
        began, killed = time.monotonic(), datetime.now(UTC)
        try:
            eventually(
                partial(_healed, cloud, name, service, old, killed),
                seconds=HEALED,
                what=f"{name} works again",
            )
        except AssertionError as error:
            late.append(str(error))
        seconds[name] = time.monotonic() - began
    print({name: f"{s:.1f} s" for name, s in seconds.items()})
    assert late == []
    time.sleep(SETTLED)
    all_run(cloud)
    again = {s["name"]: s["restarts"] - restarts[s["name"]] for s in cloud.status()["services"]}
    assert {name: count for name, count in again.items() if count != 1} == {}
    assert qemu(cloud) == servers
    first.wait(seconds=30)
    cloud.check()


def _healed(cloud: TestCloud, name: str, service: Service, old: int, killed: datetime) -> bool:
    new = next(s for s in cloud.status()["services"] if s["name"] == name)
    if new["pid"] in (0, old) or not service.ready():
        return False
    return name != "nova-compute" or _reported(cloud) > killed


def _reported(cloud: TestCloud) -> datetime:
    """When nova-compute last wrote that it is there: first some 5 s after it had looked at libvirt.

    Before that it has its connection to the broker, but ends, and is started once more, when
    libvirtd is killed under it.
    """
    (service,) = cloud.sdk.compute.services(binary="nova-compute")
    return datetime.fromisoformat(service.updated_at).replace(tzinfo=UTC)


def test_up_mends_a_cloud_whose_supervisor_was_killed(cloud: TestCloud, first: Guest) -> None:
    servers = qemu(cloud)
    os.kill(cloud.status()["supervisor"]["pid"], signal.SIGKILL)
    eventually(lambda: not cloud.status()["supervisor"]["pid"], seconds=10, what="it is gone")
    cloud.dozen("up")
    all_run(cloud)
    assert qemu(cloud) == servers
    first.wait(seconds=30)
    cloud.check()


@pytest.fixture
def blocked(cloud: TestCloud) -> Iterator[Path]:
    """memcached cannot make its socket: a folder of that name is in its way."""
    socket = cloud.cloud.run / "memcached" / "memcached.sock"
    socket.unlink()
    socket.mkdir()
    (socket / "in-the-way").touch()
    yield socket
    if socket.is_dir():
        shutil.rmtree(socket)
    cloud.dozen("up")


def test_a_service_that_keeps_dying_is_named_with_its_last_words(
    cloud: TestCloud, blocked: Path
) -> None:
    os.kill(cloud.pids()["memcached"], signal.SIGKILL)

    def given_up() -> bool:
        service = next(s for s in cloud.status()["services"] if s["name"] == "memcached")
        return bool(service["state"] == "fatal")

    eventually(given_up, seconds=60, every=1, what="the supervisor gives up")
    shown = cloud.dozen("status", code=Exit.DEGRADED).stdout
    assert "memcached keeps dying" in shown
    assert "failed to listen" in shown

    failed = cloud.dozen("up", code=Exit.DEGRADED)
    assert "The service memcached keeps dying." in failed.stderr
    assert "failed to listen" in failed.stderr

    shutil.rmtree(blocked)
    cloud.dozen("up")
    all_run(cloud)
