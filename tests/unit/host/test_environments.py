"""Python environments go when no cloud needs them, and no sooner."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.state import State
from dozencloud.host import environments


class Machine:
    """Environments in a folder, and clouds that run in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self, name: str) -> Path:
        made = self.folder / name
        (made / "bin").mkdir(parents=True, exist_ok=True)
        for stamp in (".package", ".dependencies"):
            (made / stamp).touch()
        return made

    def state(self, cloud: str) -> State:
        (self.folder / cloud).mkdir(exist_ok=True)
        return State(self.folder / cloud / "state.json")

    def use(self, cloud: str, *names: str) -> None:
        for name in names:
            root = self.folder / cloud
            environments.use(Cloud(root), self.state(cloud), self.environment(name))

    def clear(self, own: str) -> list[str]:
        gone = environments.clear(self.folder / own)
        assert not any(folder.exists() for folder in gone)
        return [folder.name for folder in gone]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_one_before_is_kept_for_the_way_back(machine: Machine) -> None:
    machine.use("a", "env-1", "env-2")
    assert machine.clear("env-2") == []
    machine.use("a", "env-3")
    assert machine.clear("env-3") == ["env-1"]
    machine.use("a", "env-2")  # the way back
    assert machine.state("a").get(environments.STATE) == ["env-2", "env-3"]
    assert machine.clear("env-2") == []


def test_what_another_cloud_runs_in_is_kept_until_it_is_gone(machine: Machine) -> None:
    machine.use("b", "env-1")
    machine.use("a", "env-1", "env-2", "env-3")
    assert machine.clear("env-3") == []
    machine.state("b").path.unlink()
    assert machine.clear("env-3") == ["env-1"]


@pytest.mark.parametrize("name", ["env-new", "dev-1", "cache"])
def test_what_no_cloud_ever_ran_in_is_kept(machine: Machine, name: str) -> None:
    other = machine.environment(name)
    machine.use("a", "env-1")
    assert machine.clear("env-1") == []
    assert other.exists()


def test_what_a_process_runs_in_is_kept(machine: Machine) -> None:
    machine.use("a", "env-1", "env-2", "env-3")
    program = machine.folder / "env-1" / "bin" / "python"
    program.symlink_to(sys.executable)
    words = [str(program), "-S", "-c", "print(flush=True); input()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        assert machine.clear("env-3") == []
        process.communicate(b"\n")
    assert machine.clear("env-3") == ["env-1"]


def test_nothing_goes_while_a_launcher_is_at_work(machine: Machine) -> None:
    machine.use("a", "env-1", "env-2", "env-3")
    with (machine.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert machine.clear("env-3") == []
    assert machine.clear("env-3") == ["env-1"]


def test_an_environment_for_tests_is_nobody_s(machine: Machine) -> None:
    machine.use("a", "env-1", "dev-1")
    assert machine.state("a").get(environments.STATE) == ["env-1"]
    assert machine.clear("dev-1") == []
    assert not (machine.folder / "dev-1" / environments.USERS).exists()
