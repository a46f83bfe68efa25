"""A second cloud on the machine: its `up` is killed; it lives beside the first; it goes.

Only an `up` that is killed at any moment shows that each task can be done again.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from keystoneauth1.exceptions import Unauthorized
from testcloud import Guest, TestCloud, new_root

from dozencloud import facts
from dozencloud.errors import Exit
from dozencloud.host import processes
from dozencloud.lifecycle import preflight
from dozencloud.tasks.timings import RunReport

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

KILLS, MORE_KILLS = 3, 10
"""Of `up`; and in a long run."""


@pytest.fixture(scope="module")
def second(cloud: TestCloud) -> Iterator[TestCloud]:
    """An empty root beside the cloud that all tests share."""
    other = TestCloud(new_root("dze2f"))
    yield other
    other.destroy()
    shutil.rmtree(other.root, ignore_errors=True)


def moments(cloud: TestCloud, count: int) -> list[float]:
    """Seconds after which `up` is killed: random, each later than the one before.

    What a killed run has done stays done, so that only a longer one gets to what comes next.
    """
    whole = RunReport.from_json((cloud.cloud.lib / "timings.json").read_text()).seconds
    dice = random.Random(2026)  # noqa: S311  (the same in every run)
    return [whole * (n + dice.random()) / count for n in range(count)]


def killed(cloud: TestCloud, seconds: float) -> bool:
    """Run `up` and kill it after `seconds`; false if it was ready before."""
    up = subprocess.Popen(cloud.words("up"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        up.wait(seconds)
    except subprocess.TimeoutExpired:
        up.kill()
        up.wait()
    print(f"{seconds:.1f} s: {'killed' if up.returncode else 'was ready before'}")
    assert up.returncode in (0, -signal.SIGKILL)
    return up.returncode != 0


def test_it_does_not_take_the_floating_ips_of_the_other(
    cloud: TestCloud, second: TestCloud, first: Guest
) -> None:
    taken, device = cloud.cloud.provider, cloud.cloud.link_devices[0]
    second.cloud.file.parent.mkdir()
    second.cloud.file.write_text(f'[network]\nprovider_cidr = "{taken}"\n')
    said = second.dozen("up", code=Exit.UNFIT).stderr
    assert f"The network {taken} of the floating IPs leads to the device {device} already." in said
    assert first.answers()
    second.cloud.file.unlink()


def test_a_lost_way_to_the_floating_ips_is_made_again(cloud: TestCloud, first: Guest) -> None:
    subprocess.run(["ip", "route", "delete", str(cloud.cloud.provider)], check=True)
    cloud.dozen("up")
    assert first.answers()


def test_up_goes_on_after_every_kill_and_makes_nothing_twice(
    cloud: TestCloud, second: TestCloud, long: bool
) -> None:
    for seconds in moments(cloud, MORE_KILLS if long else KILLS):
        while not killed(second, seconds):
            is_whole(second)
            second.destroy()
            seconds *= 0.9
    second.dozen("up")
    assert "Nothing to change" in second.dozen("up").stdout
    is_whole(second)


def is_whole(second: TestCloud) -> None:
    """All is there that `up` makes, and once."""
    sdk = second.sdk
    project = sdk.current_project_id
    ports = [p for p in sdk.network.ports() if p.device_owner.startswith("network:router_")]
    once = {
        "networks": sdk.network.networks(),
        "subnets": sdk.network.subnets(),
        "routers": sdk.network.routers(),
        "groups": sdk.network.security_groups(project_id=project),
        "images": sdk.image.images(),
        "servers": sdk.compute.servers(all_projects=True),
        "flavors": sdk.compute.flavors(),
        "keys": sdk.compute.keypairs(),
        "users": sdk.identity.users(),
        "projects": sdk.identity.projects(),
        "nodes": sdk.compute.hypervisors(),
    }
    found = {kind: Counter(each.name for each in things) for kind, things in once.items()}
    assert {n for names in found.values() for n, count in names.items() if count > 1} == set()
    assert set(found["networks"]) == set(found["subnets"]) == {"public", "private"}
    assert set(found["routers"]) == {"router"}
    assert set(found["servers"]) == {"first"}
    assert set(found["images"]) == {"tiny-arm64", "tiny-arm64-kernel", "tiny-arm64-initrd"}
    assert len(ports) == 2  # one to each network
    assert len(list(sdk.network.ips())) == 1
    assert len(list(sdk.identity.endpoints())) == 5 * 3
    binaries = Counter(service.binary for service in sdk.compute.services())
    assert set(binaries.values()) == {1}
    assert len(list(sdk.placement.resource_providers())) == 1
    assert second.status()["servers"]["count"] == 1
    second.first().wait()


@pytest.fixture
def beside(second: TestCloud) -> TestCloud:
    """The second cloud, which runs."""
    second.dozen("up")
    return second


def test_two_clouds_share_nothing(cloud: TestCloud, beside: TestCloud) -> None:
    one, other = cloud.cloud, beside.cloud
    names = [
        (c.name, c.namespace, c.table, c.provider, c.link, c.link_devices) for c in (one, other)
    ]
    assert all(mine != theirs for mine, theirs in zip(*names, strict=True))
    assert set(cloud.pids().values()).isdisjoint(beside.pids().values())
    mine = {server.id for server in cloud.sdk.compute.servers(all_projects=True)}
    theirs = {server.id for server in beside.sdk.compute.servers(all_projects=True)}
    assert mine.isdisjoint(theirs)
    assert domains(cloud).isdisjoint(domains(beside))
    token = cloud.sdk.session.get_token()
    with pytest.raises(Unauthorized):
        beside.sdk.session.get(
            f"{other.public_url}/identity/v3/projects",
            headers={"X-Auth-Token": token},
            authenticated=False,
        )


def domains(cloud: TestCloud) -> set[str]:
    """Libvirt's domains."""
    virsh = ["virsh", f"--connect={cloud.cloud.libvirt_uri}", "list", "--all", "--uuid"]
    return set(subprocess.run(virsh, check=True, capture_output=True, text=True).stdout.split())


def test_no_way_from_the_servers_of_one_cloud_to_those_of_the_other(
    cloud: TestCloud, beside: TestCloud
) -> None:
    """Not by the fixed IP; floating IPs are as public as the machine's own address."""
    first, stranger = cloud.first(), beside.first()
    if stranger.fixed == first.fixed:
        pytest.skip("both servers were given the same address")
    assert first.ask(f"nc -w 3 {stranger.fixed} 22 </dev/null").returncode == 1


def test_destroy_removes_every_trace_and_leaves_the_other_alone(
    cloud: TestCloud, beside: TestCloud, first: Guest
) -> None:
    pids, servers = cloud.pids(), set(processes.find(cloud.cloud, servers=True))
    gone = beside.cloud
    namespace = Path("/run/netns", str(gone.namespace)).stat().st_ino
    began = time.monotonic()
    beside.destroy()
    print(f"destroyed in {time.monotonic() - began:.1f} s")

    assert facts.find_traces(preflight.markers(gone)).lines() == []
    assert list(processes.find(gone)) == list(processes.find(gone, servers=True)) == []
    assert inhabitants(namespace) == {}
    assert not any(str(beside.root) in line for line in shown("ps", "axww", "-o", "args"))
    assert not any(gone.name in line for line in shown("ip", "-o", "link"))
    assert not any(gone.name in line for line in shown("ip", "netns"))
    assert not any(gone.name in line for line in shown("nft", "list", "ruleset"))
    assert not any(str(gone.provider) in line for line in shown("ip", "route"))
    assert not beside.root.exists()
    assert "nothing to remove" in beside.dozen("destroy", "--yes").stdout

    assert cloud.pids() == pids
    assert set(processes.find(cloud.cloud, servers=True)) == servers
    assert first.answers()
    assert first.run("true") == ""
    cloud.check()


def inhabitants(namespace: int) -> dict[int, str]:
    """Every process in a network namespace, by the inode of that."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "ns" / "net").stat().st_ino == namespace:
                found[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:
            continue
    return found


def shown(*words: str) -> list[str]:
    """The lines of a command's output."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
