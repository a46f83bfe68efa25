"""To the next release and back, with a kill in between; servers go on meanwhile.

What the migrations of the next release find to do is real: indexes that Nova's newest migration
makes are taken away before, with its mark.

Only a cloud with servers shows what an upgrade leaves alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from testcloud import Guest, TestCloud, eventually
from testnext import Next

from dozencloud import RELEASE, SERIES
from dozencloud.cloud.lineage import Unfinished
from dozencloud.cloud.plan import Plan
from dozencloud.cloud.state import State
from dozencloud.errors import Exit
from dozencloud.host import processes
from dozencloud.lifecycle import backups
from dozencloud.services import mariadb

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NEXT = f"{SERIES[-1]}.99999"
INDEX = "migrations_by_src_host_nodes_and_status_idx"
"""One of the two that Nova's newest revision makes (ab450ba04102)."""
OLDER = """
    DROP INDEX IF EXISTS migrations_by_src_host_nodes_and_status_idx ON nova.migrations;
    DROP INDEX IF EXISTS migrations_by_dest_host_nodes_and_status_idx ON nova.migrations;
    UPDATE nova.alembic_version SET version_num = '2903cd72dc14'
"""
AS_IT_WAS = """
    ALTER TABLE nova.migrations
        ADD INDEX IF NOT EXISTS migrations_by_dest_host_nodes_and_status_idx
            (deleted, dest_compute, dest_node, status),
        ADD INDEX IF NOT EXISTS migrations_by_src_host_nodes_and_status_idx
            (deleted, source_compute, source_node, status);
    UPDATE nova.alembic_version SET version_num = 'ab450ba04102'
"""


@pytest.fixture(scope="module")
def newer(cloud: TestCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Next]:
    yield Next(cloud.root, tmp_path_factory.mktemp("next"), NEXT)
    if Unfinished.find(state(cloud)) or state(cloud).get("release") != RELEASE:
        cloud.dozen("upgrade", "--back", "--yes", code=None)
    sql(cloud, AS_IT_WAS)


def state(cloud: TestCloud) -> State:
    return State(cloud.cloud.lib / "state.json")


def sql(cloud: TestCloud, text: str) -> str:
    command = [*mariadb.client(Plan.kept(cloud.cloud)), "--skip-column-names", "-e", text]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def indexes(cloud: TestCloud) -> str:
    return sql(cloud, "SHOW CREATE TABLE nova.migrations")


def kill_in_the_middle(cloud: TestCloud, newer: Next) -> None:
    """SIGKILL for the upgrade, once it has begun to migrate."""
    process = subprocess.Popen(newer.words("upgrade"), stdout=subprocess.DEVNULL)
    try:

        def migrating() -> bool:
            assert process.poll() is None
            cut = Unfinished.find(state(cloud))
            return cut is not None and cut.attempted

        eventually(migrating, seconds=120, every=0.05, what="migrations begin")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_there_and_back(cloud: TestCloud, newer: Next, first: Guest) -> None:
    up, servers = first.uptime(), set(processes.find(cloud.cloud, servers=True))
    sql(cloud, OLDER)
    for command in ("up", "start"):
        refused = newer.dozen(command, code=Exit.UNFIT)
        assert f"is of release {RELEASE}" in refused.stderr
        assert newer.cloud.command("upgrade") in refused.stderr

    kill_in_the_middle(cloud, newer)
    for which, command in ((newer, "up"), (cloud, "up"), (cloud, "start"), (cloud, "upgrade")):
        assert "was cut off" in which.dozen(command, code=Exit.UNFIT).stderr

    done = newer.dozen("upgrade")
    assert f"This is release {NEXT}; servers went on." in done.stdout
    assert INDEX in indexes(cloud)
    assert sql(cloud, "SELECT version_num FROM nova.alembic_version").split() == ["ab450ba04102"]
    assert set(processes.find(cloud.cloud, servers=True)) == servers
    assert first.uptime() > up
    (kept,) = backups.all_kept(cloud.cloud)
    assert kept.release == RELEASE
    for path in (backups.place(cloud.cloud), *backups.place(cloud.cloud).rglob("*")):
        # Settings are no secret, and copied with the rights that they have.
        assert path.name == "cloud.toml" or not path.stat().st_mode & 0o077, path
    assert "Nothing to change" in newer.dozen("upgrade").stdout

    number = int(sql(cloud, "SELECT MAX(id) FROM nova.instances"))
    cloud.sdk.compute.delete_flavor("m1.large")
    network = cloud.sdk.network.create_network(name="since the upgrade")
    assert "is of release" in cloud.dozen("up", code=Exit.UNFIT).stderr
    assert "--yes" in cloud.dozen("upgrade", "--back", code=Exit.USAGE).stderr
    sql(cloud, f"ALTER TABLE nova.instances AUTO_INCREMENT = {number + 100}")
    # A setting that this release does not know.
    with cloud.cloud.file.open("a") as settings:
        settings.write("[of_the_next]\nsetting = true\n")
    assert "no section" in cloud.dozen("status", code=Exit.USAGE).stderr
    cloud.dozen("upgrade", "--back", "--yes")
    assert cloud.sdk.compute.find_flavor("m1.large") is not None
    assert cloud.sdk.network.find_network(network.id) is None
    assert INDEX not in indexes(cloud)
    assert f"AUTO_INCREMENT={number + 100} " in sql(cloud, "SHOW CREATE TABLE nova.instances")
    assert set(processes.find(cloud.cloud, servers=True)) == servers
    assert first.uptime() > up
    cloud.check()
    assert "Nothing to change" in cloud.dozen("up").stdout
