"""One `dozen` at a time; what counts as a remainder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import openstack  # noqa: F401  # what refuses is loaded where the nodes are asked for
import pytest
from keystoneauth1.exceptions import Unauthorized
from nodes_kit import GIVEN, MEMBER
from users_kit import dozen_as_nobody

from dozencloud.checks import status
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import keep
from dozencloud.cloud.settings import Network, Settings
from dozencloud.cloud.state import State
from dozencloud.errors import Exit, Problem
from dozencloud.host.network.uplink import STATE
from dozencloud.lifecycle import preflight
from dozencloud.lifecycle.lock import foreign_folders, locked
from dozencloud.lifecycle.preflight import (
    leftovers,
    markers,
    ports,
    provider_card,
    service_verdicts,
)
from dozencloud.nodes import listing
from dozencloud.verdicts import Level

ALL_WELL = status.Status(
    "dozen", "", (), status.SupervisorStatus("running", 1, 0, 0), 0, 0, disk_free=5000
)
HOLD = """
import sys
from pathlib import Path
from dozencloud.cloud.installation import Cloud
from dozencloud.lifecycle.lock import locked
with locked(Cloud(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Problem) as refused, locked(Cloud(tmp_path)):
            pass
        assert refused.value.code == Exit.BUSY
        assert f"pid {holder.pid}" in refused.value.what
        holder.kill()
    with locked(Cloud(tmp_path)):
        assert (tmp_path / "lib" / "lock").exists()


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path / "new" / "cloud")
    with pytest.raises(Problem), locked(cloud):
        raise Problem("No.")
    assert list(tmp_path.iterdir()) == []


def test_work_that_was_begun_stays(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path / "cloud")
    with locked(cloud):
        (cloud.lib / "state.json").write_text("{}")
    assert (cloud.lib / "state.json").exists()


def test_a_run_killed_at_its_start_is_no_remainder(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    for folder in cloud.folders:
        folder.mkdir()
    (cloud.lib / "lock").touch()
    (cloud.etc / ".cloud.toml.new").touch()
    assert leftovers(cloud).empty
    (cloud.lib / "mariadb").mkdir()
    assert leftovers(cloud).directories == (cloud.lib,)
    cloud.file.touch()
    assert leftovers(cloud).empty


def test_folders_that_no_cloud_made_are_left_alone(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    assert foreign_folders(cloud) == []
    for folder in (cloud.lib, cloud.log):
        folder.mkdir()
    assert foreign_folders(cloud) == []
    thesis = cloud.log / "thesis.txt"
    thesis.touch()
    (verdict,) = foreign_folders(cloud)
    assert verdict.level is Level.BAD
    assert str(cloud.log) in verdict.fact
    assert str(cloud.lib) not in verdict.fact
    assert markers(cloud).directories == ()
    assert leftovers(cloud).empty
    with pytest.raises(Problem) as refused, locked(cloud):
        pass
    assert refused.value.code == Exit.UNFIT
    assert list(tmp_path.rglob("*.*")) == [thesis]
    assert not (cloud.lib / "lock").exists()


@pytest.mark.parametrize("name", ["cloud.toml", "secrets.json", "membership.json"])
def test_a_cloud_is_known_by_each_of_its_settings(tmp_path: Path, name: str) -> None:
    """Who removes cloud.toml, to have the defaults again, still has a cloud."""
    cloud = Cloud(tmp_path)
    for folder in cloud.folders:
        folder.mkdir()
        (folder / "something").touch()
    (cloud.etc / name).touch()
    assert cloud.exists
    assert leftovers(cloud).empty
    assert foreign_folders(cloud) == []
    assert markers(cloud).directories == cloud.folders


def test_only_the_machines_own_cloud_needs_ports_of_the_machine(tmp_path: Path) -> None:
    assert ports(Cloud(tmp_path)) == ()
    assert {p.setting for p in ports(Cloud())} >= {"gateway.port", "internal.api"}


LAN = Network(
    provider_interface="eth0",
    provider_cidr="203.0.113.0/24",
    provider_gateway="203.0.113.1",
    floating_range="203.0.113.200-203.0.113.220",
)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read the state")
@pytest.mark.parametrize(
    ("registered", "network", "fact"),
    [
        (None, Network(), ""),
        ("", Network(), ""),
        ("eth0", LAN, ""),
        ("eth0", Network(), 'for the card eth0, and network.provider_interface says "" now.'),
        ("", LAN, 'without a card, and network.provider_interface says "eth0" now.'),
    ],
)
def test_the_network_of_the_floating_ips_stays_what_it_was(
    tmp_path: Path, registered: str | None, network: Network, fact: str
) -> None:
    cloud = Cloud(tmp_path, Settings(network=network))
    cloud.lib.mkdir()
    state = State(cloud.lib / "state.json")
    if registered is not None:
        state.set("networks", "done")
        state.set(STATE, registered)
    said = [verdict.fact for verdict in provider_card(cloud)]
    assert [words.endswith(fact) for words in said] == ([True] if fact else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("node", [True, False])
def test_doctor_of_a_cloud_without_root_calls_nothing_bad(node: bool) -> None:
    """With folders closed as a cloud's are; in a process of its own, which is nobody."""
    with tempfile.TemporaryDirectory(prefix="dz") as folder:
        root = Path(folder)
        root.chmod(0o755)
        cloud = Cloud(root)
        for path in (cloud.etc, cloud.lib, cloud.etc / "nodes"):
            path.mkdir()
            path.chmod(0o711)
        (cloud.etc / "nodes").chmod(0o700)
        cloud.file.write_text("")
        if node:
            keep(cloud, GIVEN)
        done = dozen_as_nobody(folder, "doctor", "--json")
    assert done.stderr == ""
    verdicts = {each["name"]: each for each in json.loads(done.stdout)["verdicts"]}
    assert [name for name, each in verdicts.items() if each["level"] == "bad"] == []
    assert "cannot be seen" in verdicts["root"]["fact"]
    assert done.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read the state")
def test_doctor_says_why_the_cloud_does_not_tell_of_its_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Cloud(tmp_path)

    def refuse(_: Cloud) -> list[object]:
        raise Unauthorized

    monkeypatch.setattr(listing, "rows", refuse)
    monkeypatch.setattr(preflight, "members", lambda _: (MEMBER,))
    monkeypatch.setattr(status, "collect", lambda _: ALL_WELL)
    (verdict,) = service_verdicts(cloud)
    assert verdict.fact.startswith("The cloud does not take its administrator's password")
    assert verdict.mend.endswith(cloud.command("up"))


@pytest.mark.parametrize(("log", "mend"), [(True, "See: {} logs x"), (False, "Run: {} up")])
def test_where_there_is_no_log_nobody_is_sent_to_it(
    log: bool, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Cloud(tmp_path)
    if log:
        cloud.log.mkdir()
        (cloud.log / "x.log").touch()
    row = status.ServiceStatus("x", "X", "stopped", 0, 0, 0, 0, "")
    monkeypatch.setattr(status, "collect", lambda _: replace(ALL_WELL, services=(row,)))
    (verdict,) = service_verdicts(cloud)
    assert verdict.mend.endswith(mend.format(cloud.command()))
