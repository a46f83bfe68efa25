"""A cloud's processes are found by what they carry, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dozencloud.cloud.installation import Cloud
from dozencloud.host import processes
from dozencloud.lifecycle.lock import locked

pytestmark = pytest.mark.functional

Start = Callable[..., subprocess.Popen[bytes]]
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True)\n"
STUBBORN += "time.sleep(60)"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with tempfile.TemporaryDirectory(prefix="dz") as folder:
        yield Cloud(Path(folder))


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program with the mark of a cloud in its environment."""
    started: list[subprocess.Popen[bytes]] = []

    def run(cloud: Cloud | None, *words: str, **more: object) -> subprocess.Popen[bytes]:
        name, _, value = cloud.marker.partition("=") if cloud else ("NO_CLOUD", "", "")
        words = words or ("sleep", "60")
        environment = {"PATH": os.environ["PATH"], name: value}
        process = subprocess.Popen(words, env=environment, **more)  # type: ignore[call-overload]
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield run
    for process in started:
        process.kill()
        process.wait()


RUN = """
import subprocess, sys
from pathlib import Path
from dozencloud.cloud.installation import Cloud
from dozencloud.lifecycle.lock import locked
with locked(Cloud(Path(sys.argv[1]))):
    command = subprocess.Popen(["sh", "-c", "sleep 60; true"], start_new_session=True)
    print(command.pid, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_run_left_at_work_is_ended_by_the_next(cloud: Cloud) -> None:
    command = [sys.executable, "-c", RUN, str(cloud.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as run:
        assert run.stdout
        pid = int(run.stdout.readline())
        run.kill()
    assert processes.alive(pid)
    assert pid in set(processes.commands(cloud))
    with locked(cloud):
        assert not processes.alive(pid)
        assert set(processes.commands(cloud)) == set()


def test_the_cloud_s_own_are_found_and_ended(cloud: Cloud, start: Start) -> None:
    one, two = start(cloud), start(cloud)
    foreign, other = start(None), start(Cloud(Path(f"{cloud.root}2")))
    assert set(processes.find(cloud)) == {one.pid, two.pid}
    processes.end(cloud)
    assert one.wait(1) == two.wait(1) == -signal.SIGTERM
    assert foreign.poll() is None
    assert other.poll() is None
    assert set(processes.find(cloud)) == set()


def test_a_descendant_is_found_by_what_it_inherited(cloud: Cloud, start: Start) -> None:
    words = ("sh", "-c", "sleep 60 & echo $!; wait")
    parent = start(cloud, *words, stdout=subprocess.PIPE)
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert set(processes.find(cloud)) == {parent.pid, child}
    parent.kill()
    parent.wait()
    assert set(processes.find(cloud)) == {child}
    processes.end(cloud)
    assert not Path(f"/proc/{child}").exists() or not processes.alive(child)


def test_one_that_does_not_listen_is_made_to_end(cloud: Cloud, start: Start) -> None:
    process = start(cloud, sys.executable, "-c", STUBBORN, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    started = time.monotonic()
    processes.end(cloud, seconds=0.5)
    assert process.wait(1) == -signal.SIGKILL
    assert 0.5 <= time.monotonic() - started < 5


def test_ending_nothing_takes_no_time(cloud: Cloud) -> None:
    started = time.monotonic()
    processes.end(cloud)
    assert time.monotonic() - started < 1


def test_servers_are_found_apart(cloud: Cloud, start: Start) -> None:
    """By their program's name and a path of the cloud on the command line."""
    disk = f"{cloud.lib}/compute/instances/x/disk"
    code = "import time; time.sleep(60)"
    rename = 'exec -a /usr/bin/qemu-system-aarch64 "$@"'
    server = start(None, "bash", "-c", rename, "bash", sys.executable, "-c", code, disk)
    service = start(cloud)
    time.sleep(0.2)
    assert set(processes.find(cloud, servers=True)) == {server.pid}
    assert set(processes.find(cloud)) == {service.pid}
    other = Cloud(Path(f"{cloud.root}2"))
    assert set(processes.find(other, servers=True)) == set()
    processes.end(cloud, servers=True, seconds=2)
    assert server.wait(1) < 0
    assert service.poll() is None


def test_a_zombie_is_not_waited_for(cloud: Cloud, start: Start) -> None:
    process = start(cloud, "true")
    while processes.alive(process.pid):
        time.sleep(0.01)
    started = time.monotonic()
    processes.end(cloud)
    assert time.monotonic() - started < 1


def test_what_is_mounted_for_another_process_is_known(tmp_path: Path, start: Start) -> None:
    """So that nobody removes it: the mount would be gone for that process, too."""
    point, other = tmp_path / "point", tmp_path / "other"
    for folder in (point, other):
        folder.mkdir()
    script = f"mount -t tmpfs own {point} && echo mounted && exec sleep 60"
    enter = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
    process = start(None, *enter, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"mounted\n"
    assert not point.is_mount()
    assert processes.mounted(str(point))
    assert not processes.mounted(str(other))
