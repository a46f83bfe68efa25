"""The facts of the machine that runs this test, held against independent evidence."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dozencloud.facts import (
    Datapath,
    Facts,
    Markers,
    Target,
    find_traces,
    forget,
    gather,
    port_owner,
)
from dozencloud.facts.packages import lock_holder
from dozencloud.facts.reach import reach

pytestmark = pytest.mark.functional


@pytest.fixture(scope="module")
def facts() -> Facts:
    forget()
    return gather()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_quick_and_once() -> None:
    def seconds() -> float:
        forget()
        started = time.monotonic()
        gather()
        return time.monotonic() - started

    # The best of three: the machine may be busy, the work is the same.
    assert min(seconds() for _ in range(3)) < 0.3
    assert gather() is gather()


def test_json(facts: Facts) -> None:
    assert json.loads(json.dumps(facts.to_json()))["system"]["kernel"] == platform.release()


def test_system(facts: Facts) -> None:
    assert facts.system.root is (os.getuid() == 0)
    assert facts.system.architecture.kernel == run("uname", "-m").stdout.strip()
    assert facts.system.architecture.packages == run("dpkg", "--print-architecture").stdout.strip()
    identity = run("sh", "-c", ". /etc/os-release && echo $ID $VERSION_ID").stdout.split()
    assert [facts.system.distribution.id, facts.system.distribution.version] == identity


def test_size(facts: Facts) -> None:
    (row,) = [line for line in run("free", "-m").stdout.splitlines() if line.startswith("Mem:")]
    assert abs(facts.memory.total - int(row.split()[1])) <= 1
    assert facts.cpu.online == int(run("nproc", "--all").stdout)
    assert sorted(cpu for cluster in facts.cpu.clusters for cpu in cluster.cpus) == list(
        range(facts.cpu.online)
    )


@pytest.mark.skipif(
    not shutil.which(f"qemu-system-{platform.machine()}"), reason="no QEMU for this machine"
)
def test_kvm_is_usable_just_where_qemu_starts_with_it(facts: Facts) -> None:
    """QEMU with the host's CPU, stopped before its first instruction, is the judge."""
    machine = "virt" if platform.machine() == "aarch64" else "q35"
    qemu = subprocess.Popen(
        [
            f"qemu-system-{platform.machine()}",
            *("-accel", "kvm", "-cpu", "host", "-M", machine, "-m", "64", "-S"),
            *("-display", "none", "-nodefaults", "-no-user-config", "-monitor", "stdio"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, error = qemu.communicate("quit\n", timeout=30)
    assert facts.kvm.usable is (qemu.returncode == 0), error
    assert bool(facts.kvm.reason) is not facts.kvm.usable


def test_datapath(facts: Facts) -> None:
    def there(module: str) -> bool:
        loads = run("modprobe", "-n", "-q", module).returncode == 0
        return loads or Path("/sys/module", module).exists()

    kernel = there("openvswitch") and (there("geneve") or there("vxlan"))
    assert (facts.network.datapath is Datapath.SYSTEM) is kernel


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_network_parts_work_as_said(facts: Facts) -> None:
    """Each is tried for real, in a network namespace of its own that ends with the command."""
    inside = ("unshare", "--net")
    assert facts.network.namespaces is (run(*inside, "true").returncode == 0)
    tap = run(*inside, "ip", "tuntap", "add", "dev", "dztest", "mode", "tap")
    assert facts.network.tun is (tap.returncode == 0), tap.stderr
    if shutil.which("nft"):
        table = run(*inside, "nft", "add", "table", "inet", "dztest")
        assert facts.network.nftables is (table.returncode == 0), table.stderr


@pytest.mark.parametrize(
    ("family", "bound", "asked"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "127.0.0.1", "0.0.0.0"),  # noqa: S104
        (socket.AF_INET6, "::1", "::"),
    ],
)
def test_a_listener_is_found_with_its_pid(
    family: socket.AddressFamily, bound: str, asked: str
) -> None:
    with socket.socket(family) as server:
        server.bind((bound, 0))
        port = server.getsockname()[1]
        assert port_owner(port, asked) is None
        server.listen()
        owner = port_owner(port, asked)
        assert owner is not None
        assert (owner.pid, owner.address, owner.port) == (os.getpid(), bound, port)
        assert owner.program == Path("/proc/self/comm").read_text().strip()
        assert port_owner(port, "127.0.0.53") is None
        assert port_owner(port, asked, "udp") is None


def test_a_udp_socket_is_found() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        owner = port_owner(server.getsockname()[1], "127.0.0.1", "udp")
        assert owner is not None
        assert owner.pid == os.getpid()


def test_the_holder_of_a_lock_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
            "print('held', flush=True); sys.stdin.read()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lock = lock_holder(path)
    holder.communicate("")
    assert lock is not None
    assert (lock.pid, lock.program[:6]) == (holder.pid, "python")
    assert lock_holder(path) is None
    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Answers(BaseHTTPRequestHandler):
    """404 to everything but /slow, which takes too long, and /sick, which is an error."""

    def do_HEAD(self) -> None:
        if self.path == "/slow":
            time.sleep(1.5)
        self.send_response(503 if self.path == "/sick" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxy")
def test_reach(server: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        found = reach((Target(f"{server}/"), Target(f"{server}/sick"), Target(closed)))
    reasons = {outcome.url: outcome.reason for outcome in found.outcomes}
    assert reasons == {
        f"{server}/": "",
        f"{server}/sick": "it answers 503 Service Unavailable",
        closed: "it refuses the connection",
    }
    assert found.default_route is bool(run("ip", "route", "show", "default").stdout)


@pytest.mark.usefixtures("no_proxy")
def test_reach_gives_up_in_time(server: str) -> None:
    started = time.monotonic()
    (outcome,) = reach((Target(f"{server}/slow"),), limit=0.3).outcomes
    assert time.monotonic() - started < 1
    assert not outcome.reached


def test_reach_goes_through_a_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = server.replace("http://", "http://me:secret@")
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    (outcome,) = reach((Target("http://name.invalid/"),)).outcomes
    assert outcome.reached
    assert outcome.proxy == server.replace("http://", "http://***@")


@pytest.fixture
def marker() -> str:
    return f"/run/dztest-{uuid.uuid4().hex}"


def test_a_process_is_found_by_its_environment(marker: str) -> None:
    with subprocess.Popen(["sleep", "60"], env={"DOZEN_RUN": marker}) as sleeper:
        try:
            deadline = time.monotonic() + 5  # until the child has become `sleep`
            while not (found := find_traces(Markers(words=(marker,)))).processes:
                assert time.monotonic() < deadline
            assert [(each.pid, each.command) for each in found.processes] == [
                (sleeper.pid, "sleep 60")
            ]
            assert find_traces(Markers(words=(marker[:-1],))).empty
        finally:
            sleeper.kill()
    assert find_traces(Markers(words=(marker,))).empty


def test_the_caller_and_its_ancestors_are_no_trace(marker: str) -> None:
    """A shell and a Python below it both carry the marker; a sleep beside them does too."""
    script = (
        "import sys; from dozencloud.facts import Markers, find_traces; "
        "print([each.command for each in find_traces(Markers(words=(sys.argv[1],))).processes])"
    )
    shell = f'sleep 60 & {sys.executable} -c "$0" "$1"; kill $!; wait'
    environment = {**os.environ, "DOZEN_RUN": marker}
    done = subprocess.run(
        ["sh", "-c", shell, script, marker],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout.strip() == "['sleep 60']", done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_interfaces_namespaces_tables_and_directories(tmp_path: Path) -> None:
    name = f"dzt{uuid.uuid4().hex[:8]}"
    markers = Markers(
        interfaces=(f"{name}-*",),
        namespaces=(name,),
        tables=(f"inet {name}",),
        directories=(tmp_path / "run", tmp_path / "gone"),
    )
    assert find_traces(markers).empty
    (tmp_path / "run").mkdir()
    made = [["ip", "link", "add", f"{name}-a", "type", "veth", "peer", "name", f"{name}-b"]]
    made.append(["ip", "netns", "add", name])
    made.append(["nft", "add", "table", "inet", name])
    undo = [["ip", "link", "del", f"{name}-a"], ["ip", "netns", "del", name]]
    undo.append(["nft", "delete", "table", "inet", name])
    try:
        for command in made:
            subprocess.run(command, check=True, capture_output=True)
        found = find_traces(markers)
    finally:
        for command in undo:
            subprocess.run(command, check=False, capture_output=True)
    assert found.interfaces == (f"{name}-a", f"{name}-b")
    assert found.namespaces == (name,)
    assert found.tables == (f"inet {name}",)
    assert found.directories == (tmp_path / "run",)
    (tmp_path / "run").rmdir()
    assert find_traces(markers).empty
