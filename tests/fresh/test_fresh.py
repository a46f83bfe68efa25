"""What the README promises, typed into machines on which nothing is installed.

Nothing cheaper meets a system without Python and packages, with less than all capabilities, or
a power cut, or sees that all of a machine is as before when the cloud is gone.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import SUITES, Machine, missing

pytestmark = [
    pytest.mark.fresh,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]
SSH_LINE = re.compile(r"^\W*(ssh .+)$", re.MULTILINE)
OURS = ("/etc/dozencloud", "/var/lib/dozencloud", "/var/log/dozencloud", "/run/dozencloud")


def made_for(machine: Machine) -> str:
    """The environment's Python, asked to import the services."""
    check = "import nova, neutron, keystone, glance, placement; print('all there')"
    script = f'exec /opt/dozencloud/env-*/bin/python -Wignore -c "{check}"'
    return machine.run(["sh", "-c", script], check=True).stdout.strip()


def test_the_machine_is_bare_and_reaches_the_registries(workdir: Path) -> None:
    """What the others rely on: nothing is there, and a power cut takes all that ran."""
    with Machine.start(SUITES[0], workdir) as machine:
        assert machine.run(["python3", "--version"]).returncode == 127
        assert machine.processes() == []
        machine.run(["apt-get", "update"], check=True)
        install = ["apt-get", "install", "--yes", "--no-install-recommends"]
        machine.run([*install, "python3-pip"], check=True)
        machine.run(["pip", "download", "--dest", "/root", "six"], check=True)
        machine.popen(["sh", "-c", "setsid sleep 1000 & sleep 0.1"]).wait()
        assert machine.processes() == ["sleep 1000"]
        machine.power_off()
        machine.power_on()
        assert machine.processes() == []
        assert "six-" in machine.run(["ls", "/root"]).stdout


def test_without_network_the_launcher_names_the_server(workdir: Path) -> None:
    with Machine.start("trixie", workdir) as machine:
        machine.run(["ip", "link", "set", "eth0", "down"], check=True)
        done = machine.run(["./dozen", "up"])
        assert done.returncode == 1
        assert re.search(r"dozen: \S+ cannot be reached\. Is the network up\?", done.stderr)


def kill_the_launcher(machine: Machine) -> None:
    """Kill it again and again while it makes the environment; then that is made."""
    for seconds in (0.5, 2, 3, 4, 1.5, 2.5):
        launcher = machine.popen(["./dozen", "status"], stderr=subprocess.DEVNULL)
        try:
            launcher.wait(seconds)
        except subprocess.TimeoutExpired:
            machine.kill()
            launcher.wait()
    done = machine.run(["./dozen", "status"])
    assert (done.returncode, "There is no cloud" in done.stderr) == (4, True), done.stderr


KILL_UP = """cd /proc && for pid in [0-9]*; do
    tr '\\0' ' ' <"$pid/cmdline" | grep -q -- '-m [d]ozencloud up' && kill -9 "$pid"
done; true"""


def in_the_middle(machine: Machine) -> bool:
    """Whether dpkg runs and has left some packages unpacked, to configure them later."""
    audit = machine.run(["dpkg", "--audit"]).stdout.splitlines()
    runs = any("dpkg --force-" in line for line in machine.processes())
    return runs and sum(line.startswith(" ") for line in audit) > 4


def leave_half_installed(machine: Machine) -> None:
    """Kill two `up`, one of them with everything else, while packages are being installed."""
    for kill in (["sh", "-c", KILL_UP], ["sh", "-c", "kill -9 -1"]):
        up = machine.popen(["./dozen", "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(1)
        while not in_the_middle(machine):
            assert up.poll() is None, up.communicate()[0][-6000:]
            time.sleep(0.1)
        machine.run(kill)
        up.wait()
    assert machine.run(["dpkg", "--audit"]).stdout
    doctor = machine.run(["./dozen", "doctor"], check=True)
    assert "the next `dozen up` finishes it" in doctor.stdout


LIKE_A_CONTAINER = {"trixie": ("sys_nice", "sys_resource")}
"""What root lacks, and needs not."""
INTERRUPTED = "bookworm"
"""Where the first `status` and `up` are killed."""


@pytest.fixture(scope="module", params=SUITES)
def cloud(
    request: pytest.FixtureRequest, workdir: Path
) -> Iterator[tuple[Machine, subprocess.CompletedProcess[str]]]:
    """A fresh machine after `./dozen up`, and what that said."""
    without = LIKE_A_CONTAINER.get(request.param, ())
    with Machine.start(request.param, workdir, without=without) as machine:
        if machine.suite == INTERRUPTED:
            kill_the_launcher(machine)
            leave_half_installed(machine)
        up = machine.run(["./dozen", "up"], timeout=900)
        assert up.returncode == 0, up.stdout[-6000:] + up.stderr[-6000:]
        yield machine, up


Cloud = tuple[Machine, subprocess.CompletedProcess[str]]


def test_up_brings_a_server_that_answers_ssh(cloud: Cloud) -> None:
    machine, up = cloud
    line = SSH_LINE.search(up.stdout)
    assert line, up.stdout
    ssh, *arguments = shlex.split(line[1])
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
    answer = machine.run([ssh, *options, *arguments, "uname", "-m"], timeout=60)
    assert answer.stdout.strip() == "aarch64", answer.stderr


def test_the_environment_is_whole(cloud: Cloud) -> None:
    """Also after a launcher that was killed: see `kill_the_launcher`."""
    machine, _ = cloud
    assert made_for(machine) == "all there"


def test_no_package_is_left_half_installed(cloud: Cloud) -> None:
    """Not even after an `up` that was killed in the middle: see `leave_half_installed`."""
    machine, _ = cloud
    assert machine.run(["dpkg", "--audit"], check=True).stdout == ""
    assert machine.run(["test", "-e", "/usr/sbin/policy-rc.d"]).returncode == 1


def test_the_client_shows_the_server(cloud: Cloud) -> None:
    machine, _ = cloud
    listing = machine.run(["./dozen", "openstack", "server", "list", "-f", "json"], check=True)
    assert [(s["Name"], s["Status"]) for s in json.loads(listing.stdout)] == [("first", "ACTIVE")]


def test_status_shows_every_service_running(cloud: Cloud) -> None:
    machine, _ = cloud
    status = json.loads(machine.run(["./dozen", "status", "--json"], check=True).stdout)
    states = {service["name"]: service["state"] for service in status["services"]}
    assert {"nova-compute", "keystone"} <= states.keys()
    assert set(states.values()) == {"running"}


def test_a_second_up_changes_nothing(cloud: Cloud) -> None:
    machine, _ = cloud
    again = machine.run(["./dozen", "up"], check=True)
    assert "nothing to change" in again.stdout.lower()


def test_one_start_brings_all_back_after_a_power_cut(cloud: Cloud) -> None:
    machine, _ = cloud
    machine.power_off()
    machine.power_on()
    started = machine.run(["./dozen", "start"])
    assert started.returncode == 0, started.stdout[-3000:] + started.stderr[-3000:]
    machine.run(["./dozen", "status"], check=True)
    end = time.monotonic() + 120
    while (answer := machine.run(["./dozen", "ssh", "first", "uname", "-m"])).returncode:
        assert time.monotonic() < end, answer.stderr
        time.sleep(1)


@pytest.mark.parametrize("cloud", ["trixie"], indirect=True)
def test_a_machine_whose_system_is_too_old_is_refused(cloud: Cloud, workdir: Path) -> None:
    machine, _ = cloud
    with Machine.start(SUITES[0], workdir) as board:
        line = machine.run(["./dozen", "node", "token"], check=True).stdout
        refused = board.run(shlex.split(line)[1:], timeout=300)
        assert refused.returncode
        assert "The OVN of this machine (23.03) is older than the controller's" in refused.stderr
        assert board.run(["ls", "-d", *OURS]).stdout == ""
    nodes = json.loads(machine.run(["./dozen", "node", "list", "--json"], check=True).stdout)
    assert [node["name"] for node in nodes] == [machine.name]


@pytest.mark.parametrize("cloud", ["trixie"], indirect=True)
def test_another_machine_joins_runs_a_server_and_leaves(cloud: Cloud, workdir: Path) -> None:
    """Each system under each other: test_pairs.py."""
    machine, _ = cloud
    openstack = ["./dozen", "openstack"]
    with Machine.start(SUITES[1], workdir) as board:
        line = machine.run(["./dozen", "node", "token"], check=True).stdout
        board.run(shlex.split(line)[1:], timeout=900, check=True)
        server = ["server", "create", "--image", "tiny-arm64", "--flavor", "m1.nano"]
        server += ["--network", "private", "--security-group", "ssh", "--key-name", "dozen"]
        server += ["--availability-zone", f"nova:{board.name}", "--wait", "far"]
        machine.run([*openstack, *server], check=True)
        create = ["floating", "ip", "create", "public", "-f", "value", "-c", "floating_ip_address"]
        address = machine.run([*openstack, *create], check=True).stdout.strip()
        machine.run([*openstack, "server", "add", "floating", "ip", "far", address], check=True)
        end = time.monotonic() + 120
        while (answer := machine.run(["./dozen", "ssh", "far", "uname", "-m"])).returncode:
            assert time.monotonic() < end, answer.stderr
            time.sleep(1)
        assert answer.stdout.strip() == "aarch64"
        refused = board.run(["./dozen", "leave"])
        assert "1 server(s) are on" in refused.stderr
        machine.run([*openstack, "server", "delete", "--wait", "far"], check=True)
        board.run(["./dozen", "leave"], check=True)
        nodes = json.loads(machine.run(["./dozen", "node", "list", "--json"], check=True).stdout)
        assert [node["name"] for node in nodes] == [machine.name]
        assert board.processes() == []
        assert board.run(["ls", "-d", *OURS]).stdout == ""


def test_destroy_leaves_nothing(cloud: Cloud) -> None:
    machine, _ = cloud
    kept = "/var/lib/misc/dozencloud.json"
    packages = json.loads(machine.run(["cat", kept], check=True).stdout)["packages"]
    assert "mariadb-server-core" in packages
    said = machine.run(["./dozen", "destroy", "--yes"], check=True).stdout
    assert f"Left: {len(packages)} packages that were installed for it." in said
    assert "Left: the Python environment in /opt/dozencloud, " in said
    # What is left is remembered after the cloud, too.
    both = ["./dozen", "destroy", "--purge-packages", "--environment"]
    said = machine.run(both, check=True).stdout
    assert "mariadb-server-core" in said and "Removed: /opt/dozencloud" in said
    assert machine.run(["ls", "-d", kept, "/opt/dozencloud"]).stdout == ""
    status = machine.run(["dpkg-query", "--show", "--showformat=${db:Status-Status} ", *packages])
    # e2fsprogs is protected (deb-control(5)): a system keeps it once it has it.
    assert status.stdout.split().count("installed") == ("e2fsprogs" in packages)
    assert machine.run(["dpkg", "--audit"], check=True).stdout == ""
    assert machine.processes() == []
    links = json.loads(machine.run(["ip", "-json", "link"], check=True).stdout)
    assert {link["ifname"] for link in links} == {"lo", "eth0"}
    assert machine.run(["ip", "netns"], check=True).stdout == ""
    rules = machine.run(["sh", "-c", "! command -v nft >/dev/null || nft list ruleset"], check=True)
    assert rules.stdout == ""
    assert machine.run(["ls", "-d", *OURS]).stdout == ""
    # apt, which was killed at its work, left its own.
    left = machine.run(["ls", "-A", "/tmp"], check=True).stdout.split()  # noqa: S108
    assert [each for each in left if not each.startswith("apt")] == []
