"""What the clouds of a machine share: it is remembered until nobody needs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dozencloud.cli.destroy import clear_machine
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.state import State
from dozencloud.host import environments, machine, packages


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "misc" / "record.json"
    monkeypatch.setattr(machine, "RECORD", path)
    return path


def cloud(tmp_path: Path, name: str) -> Cloud:
    made = Cloud(tmp_path / name)
    made.etc.mkdir(parents=True)
    made.lib.mkdir()
    made.file.touch()
    machine.enter(made)
    return made


def test_a_stopped_cloud_is_another_cloud_until_it_is_gone(tmp_path: Path, record: Path) -> None:
    one, two = cloud(tmp_path, "one"), cloud(tmp_path, "two")
    machine.enter(one)
    assert machine.others(one) == [str(two.etc)]
    two.file.unlink()  # somebody has removed it by hand
    assert machine.others(one) == []
    machine.leave(one)
    assert not record.exists(), "a machine without clouds and packages has no record of them"


def test_packages_outlive_the_clouds_that_they_came_with(tmp_path: Path, record: Path) -> None:
    one, two = cloud(tmp_path, "one"), cloud(tmp_path, "two")
    machine.remember(["nginx", "haproxy"])
    machine.remember(["nginx", "gpgv"])
    machine.leave(one)
    machine.leave(two)
    assert machine.packages() == ["gpgv", "haproxy", "nginx"]
    machine.forget_packages()
    assert machine.packages() == []
    assert not record.exists()


def test_a_damaged_record_is_an_empty_one(record: Path) -> None:
    record.parent.mkdir()
    record.write_text("{")
    assert machine.packages() == []


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process runs in it."""
    own = tmp_path / "base" / "env-0"
    (own / "bin").mkdir(parents=True)
    (own / "bin" / "python").write_bytes(bytes(3 << 20))
    (own.parent / "uv-1").mkdir()
    (own.parent / "lock").touch()
    monkeypatch.setattr(sys, "prefix", str(own))
    return own


def test_destroy_says_what_it_leaves_and_removes_it_when_asked(
    tmp_path: Path,
    environment: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """apt-get is left out: no package of this machine is to go."""
    monkeypatch.setattr(packages, "purge", lambda say: machine.forget_packages() or ["nginx"])
    gone = Cloud(tmp_path / "gone")
    machine.remember(["nginx"])
    clear_machine(gone)
    command = f"sudo ./dozen --root {gone.root} destroy"
    assert capsys.readouterr().out.splitlines() == [
        "Left: 1 packages that were installed for it. To remove them:",
        f"  {command} --purge-packages",
        f"Left: the Python environment in {environment.parent}, 3 MiB. To remove it:",
        f"  {command} --environment",
    ]
    clear_machine(gone, purge_packages=True, environment=True)
    assert capsys.readouterr().out.splitlines() == [
        "Removed: nginx.",
        f"Removed: {environment.parent}, 3 MiB.",
    ]
    assert not environment.parent.exists()
    clear_machine(gone, purge_packages=True, environment=True)
    assert capsys.readouterr().out == ""


def test_what_another_cloud_needs_stays(
    tmp_path: Path, environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, other = Cloud(tmp_path / "gone"), cloud(tmp_path, "other")
    machine.remember(["nginx"])
    clear_machine(gone)
    assert capsys.readouterr().out == ""
    clear_machine(gone, purge_packages=True, environment=True)
    assert f"which stay: {other.etc}." in capsys.readouterr().out
    assert machine.packages() == ["nginx"]
    assert environment.exists()


def test_an_environment_that_a_cloud_of_before_runs_in_stays(
    tmp_path: Path, environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a release that kept no record."""
    old = Cloud(tmp_path / "old")
    old.lib.mkdir(parents=True)
    environments.use(old, State.of(old), environment)
    clear_machine(Cloud(tmp_path / "gone"), environment=True)
    assert f"clouds run in it: {old.lib}/state.json." in capsys.readouterr().out
    assert environment.exists()


def test_environments_of_tests_stay(environment: Path) -> None:
    (environment.parent / "dev-0").mkdir()
    environments.remove(environment)
    assert sorted(path.name for path in environment.parent.iterdir()) == ["dev-0", "lock", "uv-1"]
