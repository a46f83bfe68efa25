"""The supervisor with small programs: preloading, users, restarts, and an end without remains."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Role
from dozencloud.errors import Problem
from dozencloud.host import processes
from dozencloud.host.confinement import Confinement, Unconfined
from dozencloud.host.processes import alive
from dozencloud.supervision.client import Supervisor, clean_environment, log_file
from dozencloud.supervision.service import SERVE, Definition, Service

pytestmark = [pytest.mark.functional, pytest.mark.timeout(90)]

USER = "nobody"
MODULE = """
import atexit, json, os, sys, time

def report():
    atexit.register(print, "never", flush=True)  # belongs to the interpreter's end
    print(json.dumps({
        "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "parent": os.getppid(),
        "arguments": sys.argv, "environment": dict(os.environ), "folder": os.getcwd(),
        "umask": os.umask(0), "loaded": sorted(sys.modules),
        "title": open("/proc/self/cmdline").read().rstrip("\\0"),
        "name": open("/proc/self/comm").read().strip(),
        "open": sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                       if os.path.exists(f"/proc/self/fd/{n}")),
    }), flush=True)
    time.sleep(600)

def fail():
    raise ValueError("this is the reason")

def forge():
    import logging
    logging.basicConfig()
    logging.error("no %s", "x\\r\\n2026-01-01 FORGED")
    time.sleep(600)

def refuse():
    sys.exit("refused in words")
"""


def service(name: str, *command: str, user: str = "root", **more: Any) -> Service:
    definition = Definition(name, name, lambda plan: service(name, *command), frozenset(Role))
    return Service(
        definition,
        command=command,
        ready=lambda: True,
        user=user,
        stop_seconds=3,
        **more,
    )


def python(name: str, function: str, user: str = USER, **more: Any) -> Service:
    command = [sys.executable, *SERVE, "main", f"tiny_services:{function}", "--word"]
    return service(name, *command, user=user, **more)


TRIES = (
    "sh",
    "-c",
    "unshare --uts echo unshared; grep -E 'CapBnd|NoNew|Seccomp:' /proc/self/status",
)
"""Asks for a namespace, then says what it may."""
TOKEN = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
SAID = rf"GET /socket?token={TOKEN}\n\033]0;owned\007\233 the end"

# A leader with a child that would outlive it.
DEAF = tuple(f"deaf-{number}" for number in range(8))
FAMILY = ("sh", "-c", "sleep 600 & echo $!; wait")
SERVICES = (
    service("plain", "sleep", "600"),
    service("family", *FAMILY),
    service("own-group", "sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait; wait"),
    service("dies", "sh", "-c", "echo the last words; exit 7"),
    service("dies-slowly", "sh", "-c", "sleep 0.5; exit 7"),
    service("no-program", "/no/such/program"),
    *(service(name, "sh", "-c", "exec <&-; exec sleep 600") for name in DEAF),
    python("before", "report"),
    python("after", "report", environment={"A": "100% b,c"}, umask=0o027),
    service("confined", *TRIES, user=USER),
    service("confined-root", *TRIES, confinement=Confinement(("kill",), ("unshare",))),
    service("free", *TRIES, confinement=Unconfined("to compare with")),
    service("talks", "sh", "-c", f"printf '{SAID}'; sleep 600"),
    python("forges", "forge"),
    python("fails", "fail"),
    python("refuses", "refuse"),
)


@contextmanager
def supervised() -> Iterator[tuple[Cloud, Supervisor, int]]:
    with tempfile.TemporaryDirectory(prefix="dz") as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "tiny_services.py").write_text(MODULE)
        cloud = Cloud(root)
        for path in cloud.folders:
            path.mkdir()
        supervisor = Supervisor(cloud)
        supervisor.write_config(SERVICES)
        search = os.pathsep.join([folder, *filter(None, sys.path)])
        # It becomes a daemon, as `up` starts it, so that nothing of it waits for this process.
        subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "dozencloud.supervision.daemon",
                "-c",
                str(supervisor.config),
            ],
            env={**clean_environment(cloud), "PYTHONPATH": search},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        eventually(supervisor.alive)
        pid = supervisor.pid()
        assert pid
        try:
            yield cloud, supervisor, pid
        finally:
            supervisor.shutdown(10)
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


def eventually(probe: Callable[[], object], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (answer := probe()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.05)
    return answer


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Cloud, Supervisor, int]]:
    with supervised() as running:
        yield running


@pytest.fixture(scope="module")
def cloud(running: tuple[Cloud, Supervisor, int]) -> Cloud:
    return running[0]


@pytest.fixture(scope="module")
def supervisor(running: tuple[Cloud, Supervisor, int]) -> Supervisor:
    return running[1]


def start(supervisor: Supervisor, name: str) -> int:
    supervisor.start(name)
    return int(eventually(lambda: supervisor.process(name).pid))


def said(cloud: Cloud, name: str) -> str:
    def text() -> str:
        path = log_file(cloud, name)
        return path.read_text() if path.exists() else ""

    return str(eventually(text))


def told(cloud: Cloud, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(said(cloud, name))
    return answer


def gone(pid: int) -> bool:
    return not alive(pid)


# ---- preloading ---------------------------------------------------------------------------
# These stand in the order in which a cloud comes up.


def test_before_the_libraries_are_loaded_python_is_started_anew(
    cloud: Cloud, supervisor: Supervisor
) -> None:
    assert supervisor.preloaded() == {"done": False, "failed": []}
    start(supervisor, "before")
    report = told(cloud, "before")
    assert report["uid"] == pwd.getpwnam(USER).pw_uid
    assert "oslo_messaging" not in report["loaded"]
    assert (report["title"], report["name"]) == ("before", "before")
    supervisor.stop("before")


def test_all_libraries_can_be_loaded(supervisor: Supervisor) -> None:
    supervisor.preload(control=True)
    supervisor.preload(control=True)  # asked twice, done once
    eventually(lambda: supervisor.preloaded()["done"], 60)
    assert supervisor.preloaded() == {"done": True, "failed": []}


def test_then_a_service_is_a_fork_of_the_parent(
    cloud: Cloud,
    supervisor: Supervisor,
    running: tuple[Cloud, Supervisor, int],
) -> None:
    pid = start(supervisor, "after")
    report = told(cloud, "after")
    account = pwd.getpwnam(USER)
    assert (report["uid"], report["gid"]) == (account.pw_uid, account.pw_gid)
    assert 0 not in report["groups"]
    assert report["parent"] == running[2] == supervisor.pid()
    assert report["arguments"] == ["after", "--word"]
    assert (report["title"], report["name"]) == ("after", "after")
    assert report["folder"] == "/"
    assert report["umask"] == 0o027
    assert {"oslo_messaging", "oslo_config.cfg", "sqlalchemy.orm"} <= set(report["loaded"])
    # nova-compute refuses to start where eventlet is; services register options when imported.
    for name in ("eventlet", "nova", "neutron", "keystone", "glance", "placement"):
        assert name not in report["loaded"], name
    assert Path(f"/proc/{pid}/exe").resolve() == Path(sys.executable).resolve()
    assert pid in processes.find(cloud), "the title must leave the environment, which marks it"
    supervisor.stop("after")


def test_a_fork_has_its_own_environment(cloud: Cloud) -> None:
    environment = told(cloud, "after")["environment"]
    assert environment["A"] == "100% b,c"
    assert environment["SUPERVISOR_PROCESS_NAME"] == "after"
    assert f"DOZEN_CLOUD={environment['DOZEN_CLOUD']}" == cloud.marker


def test_a_fork_holds_nothing_of_the_supervisor_s(cloud: Cloud) -> None:
    """Neither its socket, by which one could command it as root, nor other services' logs."""
    held = told(cloud, "after")["open"]
    assert not [name for name in held if name.endswith((".sock", ".log"))], held
    assert not [name for name in held if name.startswith("socket:")], held


def test_stopping_a_fork_runs_nothing_of_the_parent(cloud: Cloud) -> None:
    assert "never" not in said(cloud, "after")


def test_a_service_is_confined_as_it_says(cloud: Cloud, supervisor: Supervisor) -> None:
    found = {}
    for name in ("confined", "confined-root", "free"):
        supervisor.start(name)
        eventually(lambda name=name: supervisor.process(name).state != "starting")
        words = said(cloud, name)
        found[name] = (
            "unshared" in words,
            *(
                line.split()[1]
                for line in words.splitlines()
                if re.match("CapBnd|NoNew|Secc", line)
            ),
        )
        supervisor.stop(name)
    assert found["confined"] == (False, "0" * 16, "1", "2")
    # unshare(2) itself is let through there; without the capability it is refused all the same.
    assert found["confined-root"] == (False, f"{1 << 5:016x}", "1", "2")
    assert found["free"][0]
    assert found["free"][2:] == ("0", "0")


def test_what_services_write_gives_no_orders_and_holds_no_tokens(
    cloud: Cloud, supervisor: Supervisor
) -> None:
    supervisor.start("talks")
    eventually(lambda: "token" in said(cloud, "talks"))
    assert said(cloud, "talks") == "GET /socket?token=***\n"
    supervisor.stop("talks")
    eventually(lambda: "the end" in said(cloud, "talks"))  # a line without an end is not lost
    assert said(cloud, "talks") == ("GET /socket?token=***\n\\x1b]0;owned\\x07\\x9b the end")
    supervisor.start("forges")
    assert eventually(lambda: said(cloud, "forges")) == "ERROR:root:no x\\r\\n2026-01-01 FORGED\n"
    supervisor.stop("forges")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("fails", "ValueError: this is the reason"), ("refuses", "refused in words")],
)
def test_a_fork_that_fails_says_why(
    cloud: Cloud, supervisor: Supervisor, name: str, reason: str
) -> None:
    supervisor.start(name)
    assert reason in said(cloud, name)
    eventually(lambda: supervisor.process(name).state == "backoff")
    supervisor.stop(name)
    assert supervisor.process(name).starts >= 1


# ---- restarts -----------------------------------------------------------------------------


def test_a_killed_one_is_started_again(supervisor: Supervisor) -> None:
    pid = start(supervisor, "plain")
    eventually(lambda: supervisor.process("plain").state == "running")
    assert supervisor.process("plain").starts == 1
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: supervisor.process("plain").pid not in (0, pid))
    assert supervisor.process("plain").starts == 2
    assert not supervisor.process("plain").dying
    supervisor.check("plain")
    supervisor.start("plain")  # no failure, no second one
    assert supervisor.process("plain").starts == 2


def test_one_that_keeps_dying_is_told_with_its_last_words(
    cloud: Cloud, supervisor: Supervisor
) -> None:
    supervisor.start("dies")
    supervisor.check("dies")

    def reported() -> Problem | None:
        try:
            supervisor.check("dies")
        except Problem as problem:
            return problem
        return None

    problem = eventually(reported, 30)
    assert problem.what == "The service dies keeps dying."
    assert problem.detail.endswith("the last words")
    assert str(log_file(cloud, "dies")) in problem.mend
    supervisor.check("dies", before=supervisor.process("dies").starts)
    assert supervisor.process("dies").dying
    supervisor.stop("dies")
    assert not supervisor.process("dies").dying


def test_one_that_dies_slowly_is_dying_while_it_is_tried_again(supervisor: Supervisor) -> None:
    supervisor.start("dies-slowly")
    assert not supervisor.process("dies-slowly").dying

    def again() -> bool:
        process = supervisor.process("dies-slowly")
        return process.state == "starting" and process.starts > 1

    eventually(again)
    assert supervisor.process("dies-slowly").dying
    supervisor.stop("dies-slowly")


def test_a_program_that_is_not_there(supervisor: Supervisor) -> None:
    with pytest.raises(Problem, match="no-program cannot be started"):
        supervisor.start("no-program")


def test_a_name_that_is_not_there(supervisor: Supervisor) -> None:
    with pytest.raises(Problem, match="no service called nobody"):
        supervisor.process("nobody")


# ---- ends ---------------------------------------------------------------------------------


def test_what_a_killed_leader_leaves_is_ended(cloud: Cloud, supervisor: Supervisor) -> None:
    leader = start(supervisor, "family")
    child = int(said(cloud, "family").split()[0])
    eventually(lambda: supervisor.process("family").state == "running")
    os.kill(leader, signal.SIGKILL)
    eventually(lambda: gone(child), 5)
    supervisor.stop("family")


def test_stopping_ends_the_whole_group(cloud: Cloud, supervisor: Supervisor) -> None:
    leader = start(supervisor, "family")
    child = int(said(cloud, "family").split()[-1])
    supervisor.stop("family")
    eventually(lambda: gone(leader) and gone(child), 5)
    assert supervisor.process("family").state == "stopped"


def test_one_that_ignores_the_request_is_killed(cloud: Cloud, supervisor: Supervisor) -> None:
    leader = start(supervisor, "own-group")
    child = int(said(cloud, "own-group").split()[0])
    started = time.monotonic()
    supervisor.stop("own-group")
    assert 2 <= time.monotonic() - started < 8
    eventually(lambda: gone(leader) and gone(child), 5)


def test_it_rests_when_services_closed_their_input(
    running: tuple[Cloud, Supervisor, int],
) -> None:
    _, supervisor, pid = running

    def worked() -> float:
        """Seconds of processor time."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # All at once, as `up` starts them: descriptors of closed connections become pipes at once.
    with ThreadPoolExecutor(len(DEAF)) as pool:
        for _ in range(8):
            list(pool.map(supervisor.stop, DEAF))
            list(pool.map(partial(start, supervisor), DEAF))
    eventually(lambda: all(supervisor.process(name).state == "running" for name in DEAF))
    before = worked()
    time.sleep(2)
    assert worked() - before < 0.5
    for name in DEAF:
        supervisor.stop(name)


def test_another_user_has_no_way_to_command_it(cloud: Cloud, supervisor: Supervisor) -> None:
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, str(cloud.supervisor_socket)],
        check=False,
        capture_output=True,
        text=True,
        user=USER,
    )
    assert "PermissionError" in done.stderr


def test_no_service_outlives_a_killed_supervisor() -> None:
    with supervised() as (cloud, supervisor, pid):
        pids = [start(supervisor, name) for name in ("plain", "family", "before")]
        told(cloud, "before")  # it has come to its own code
        child = int(said(cloud, "family").split()[0])
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: all(map(gone, [pid, *pids])), 5)
        # A child's child gets no signal; the next `up` finds it by its mark.
        assert set(processes.find(cloud)) <= {child}
        processes.end(cloud)
        assert gone(child)


def test_a_shutdown_leaves_nothing() -> None:
    with supervised() as (cloud, supervisor, pid):
        pids = [start(supervisor, name) for name in ("plain", "family")]
        pids.append(int(said(cloud, "family").split()[0]))
        supervisor.shutdown(20)
        assert all(map(gone, [pid, *pids]))
        assert not supervisor.alive()
