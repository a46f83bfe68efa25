"""One `dozen` at a time; what counts as a remainder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dozencloud.cloud import Cloud
from dozencloud.errors import Exit, Problem
from dozencloud.preflight import leftovers, locked, ports

HOLD = """
import sys
from pathlib import Path
from dozencloud.cloud import Cloud
from dozencloud.preflight import locked
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


def test_only_the_machines_own_cloud_needs_ports_of_the_machine(tmp_path: Path) -> None:
    assert ports(Cloud(tmp_path)) == ()
    assert {p.setting for p in ports(Cloud())} >= {"gateway.port", "internal.api"}
