"""supervisord.conf as supervisord reads it; log tails; whose connections a process holds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from supervisor import events
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates, SupervisorStates

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Role
from dozencloud.errors import Exit, Problem
from dozencloud.supervision import client, daemon, ready
from dozencloud.supervision.client import Supervisor, clean_environment, last_lines, render
from dozencloud.supervision.ready import _connections, _tree
from dozencloud.supervision.service import Definition, Service


def service(name: str = "one", **more: object) -> Service:
    settings = {"command": ["true"], "ready": lambda: True, **more}
    definition = Definition(name, "One", lambda plan: service(name), frozenset(Role))
    return Service(definition, **settings)  # type: ignore[arg-type]


def parsed(tmp_path: Path, *services: Service) -> ServerOptions:
    """What supervisord makes of the rendered file."""
    cloud = Cloud(tmp_path)
    for folder in cloud.folders:
        folder.mkdir(exist_ok=True)
    config = cloud.etc / "supervisord.conf"
    config.write_text(render(cloud, services))
    options = ServerOptions()
    options.realize(["-c", str(config)])
    return options


# ---- supervisord.conf ---------------------------------------------------------------------

AWKWARD = [
    "100%",
    "%(here)s",
    "%%",
    "two words",
    "it's",
    'say "so"',
    "a;b",
    "back\\slash",
    "{1,2}",
    "-",
    "$HOME",
    "#no",
    "grün",
]


@pytest.mark.parametrize("word", AWKWARD)
def test_a_word_of_a_command_arrives_as_it_was(tmp_path: Path, word: str) -> None:
    import shlex

    options = parsed(tmp_path, service(command=["/bin/echo", word, "end"]))
    (group,) = options.process_group_configs
    (program,) = group.process_configs
    assert shlex.split(program.command) == ["/bin/echo", word, "end"]


@pytest.mark.parametrize(
    "value", ["", "100%", "%(here)s", "two words", "a,b=c", "a;b", "{127,0,0,1}", "+S 1:1"]
)
def test_a_value_of_the_environment_arrives_as_it_was(tmp_path: Path, value: str) -> None:
    options = parsed(tmp_path, service(environment={"A": value, "B": "2"}))
    (group,) = options.process_group_configs
    (program,) = group.process_configs
    assert program.environment["A"] == value
    assert program.environment["B"] == "2"


def test_how_programs_are_run(tmp_path: Path) -> None:
    services = [service(), service("two", stop_seconds=30, umask=0o022)]
    options = parsed(tmp_path, *services)
    assert [group.name for group in options.process_group_configs] == ["one", "two"]
    for group, ours in zip(options.process_group_configs, services, strict=True):
        (program,) = group.process_configs
        assert not program.autostart
        assert program.uid == 0
        assert program.umask == ours.umask
        assert program.stopwaitsecs == ours.stop_seconds
        assert program.stopasgroup and program.killasgroup
        assert program.redirect_stderr
        assert program.stdout_logfile == str(tmp_path / "log" / f"{ours.name}.log")
        assert program.startretries == client.RETRIES


def test_the_socket_is_root_s(tmp_path: Path) -> None:
    (server,) = parsed(tmp_path).server_configs
    assert server["file"] == str(tmp_path / "run" / "supervisor.sock")
    assert server["chmod"] == 0o600


def test_the_file_is_written_when_it_changes(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    cloud.etc.mkdir()
    supervisor = Supervisor(cloud)
    assert supervisor.write_config([service()])
    assert not supervisor.write_config([service()])
    assert supervisor.write_config([service(), service("two")])
    assert supervisor.config.stat().st_mode & 0o777 == 0o600


def test_nobody_answers(tmp_path: Path) -> None:
    supervisor = Supervisor(Cloud(tmp_path))
    assert not supervisor.alive()
    assert supervisor.pid() is None
    with pytest.raises(Problem, match="does not answer") as refused:
        supervisor.processes()
    assert refused.value.code == Exit.DEGRADED
    assert f"--root {tmp_path} start" in refused.value.mend


def test_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "PYTHONPATH", "OS_PASSWORD", "LD_PRELOAD"):
        monkeypatch.setenv(name, "x")
    cloud = Cloud(Path("/srv/a"))
    environment = clean_environment(cloud)
    assert set(environment) == {
        *("PATH", "HOME", "LANG", "TZ", "PYTHONWARNINGS", "DOZEN_CLOUD"),
    }
    assert f"DOZEN_CLOUD={environment['DOZEN_CLOUD']}" == cloud.marker


# ---- logs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "count", "expected"),
    [
        (b"", 3, ""),
        (b"a\nb\n", 3, "a\nb"),
        (b"a\nb\nc\nd", 2, "c\nd"),
        (b"a\n\xff\n", 1, "\N{REPLACEMENT CHARACTER}"),
        (b"a\n\n\n", 3, "a"),
    ],
)
def test_last_lines(tmp_path: Path, content: bytes, count: int, expected: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    assert last_lines(path, count) == expected


def test_last_lines_of_nothing(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none") == ""
    assert last_lines(tmp_path) == ""


# ---- processes ----------------------------------------------------------------------------

CHILD = """
import socket, sys
if sys.argv[1] != "0":
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def broker() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def start(port: int) -> subprocess.Popen[str]:
    """A shell whose child is connected to the port (0: to none)."""
    inner = [sys.executable, "-S", "-c", CHILD, str(port)]
    process = subprocess.Popen(
        ["sh", "-c", '"$@"; true', "sh", *inner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("", timeout=5)


def test_tree(broker: socket.socket) -> None:
    process = start(0)
    try:
        tree = _tree(process.pid)
        assert tree[0] == process.pid
        assert len(tree) == 2
        assert os.getpid() not in tree
        assert set(tree) <= set(_tree(os.getpid()))
    finally:
        end(process)
    assert _tree(process.pid) == [process.pid]


def test_connected_to(broker: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    port = broker.getsockname()[1]
    connected, idle = start(port), start(0)
    pids = {"connected": connected.pid, "idle": idle.pid, "stopped": 0}

    def process(self: Supervisor, name: str) -> client.Process:
        return client.Process(name, "running", pids[name], time.time(), 1, "")

    monkeypatch.setattr(Supervisor, "process", process)
    try:
        other, _ = broker.accept()
        cloud = Cloud(Path("/srv/a"))
        answers = {n: ready.connected_to(cloud, n, port)() for n in pids}
        assert answers == {"connected": True, "idle": False, "stopped": False}
        assert not ready.connected_to(cloud, "connected", port - 1)()
        # The listening side has the port as its local end, not as its remote one.
        assert f"0100007F:{port:04X}" not in _connections(os.getpid())
        other.close()
    finally:
        end(connected)
        end(idle)


def test_connections_of_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert _connections(process.pid) == set()


# ---- what was given up --------------------------------------------------------------------


@pytest.fixture
def no_events() -> Iterator[None]:
    """Nobody else is told of supervisord's events, and nobody afterwards."""
    before, events.callbacks = events.callbacks, []
    yield
    events.callbacks = before


@pytest.mark.usefixtures("no_events")
@pytest.mark.parametrize(
    ("mood", "again"), [(SupervisorStates.RUNNING, ["given-up"]), (SupervisorStates.SHUTDOWN, [])]
)
def test_each_minute_what_was_given_up_is_tried_again(mood: int, again: list[str]) -> None:
    states = {
        "given-up": ProcessStates.FATAL,
        "stopped": ProcessStates.STOPPED,
        "runs": ProcessStates.RUNNING,
        "between": ProcessStates.BACKOFF,
    }
    spawned: list[str] = []
    processes = {
        name: SimpleNamespace(get_state=lambda s=state: s, spawn=lambda n=name: spawned.append(n))
        for name, state in states.items()
    }
    ending = SimpleNamespace(
        options=SimpleNamespace(mood=mood),
        process_groups={"all": SimpleNamespace(processes=processes)},
    )
    daemon.Interface(ending)
    events.notify(events.Tick60Event(0, None))
    assert spawned == again
