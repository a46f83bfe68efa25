"""gdb on emulated ARM servers: a real gdb, a real QEMU below a real libvirtd, our driver.

Only a stranger's gdb and a QEMU that runs show that they understand each other through us, and that
the server runs on when one of the three goes.
"""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("libvirt", reason="Debian's libvirt bindings need root once to be linked")

from novakit import Disks, NovaKit, Server

from dozencloud.compute.debugging import gdbstub
from dozencloud.compute.debugging.gdbrequest import KEY
from dozencloud.compute.debugging.gdbserial import packet
from dozencloud.compute.debugging.session import Debugging, Phase, Record, Session

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(not shutil.which("gdb-multiarch"), reason="gdb-multiarch"),
]

RESET, KERNEL = 0x40000000, 0x40200000
"""QEMU's own first instructions on the machine virt; where it puts an arm64 kernel."""
LOOP = KERNEL + 0x44
BRIDGE = Path(__file__).with_name("gdbtunnel.py")


def counting_kernel() -> bytes:
    """An arm64 Image that counts in x0 and does nothing else."""
    code = struct.pack("<III", 0xD2800000, 0x91000400, 0x17FFFFFF)  # mov x0,0; add x0,x0,1; b -4
    head = struct.pack("<IIQQQQQQ4sI", 0x14000010, 0, 0, 4096, 0xA, 0, 0, 0, b"ARMd", 0)
    return (head + code).ljust(4096, b"\0")


def eventually(true: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def kit() -> Iterator[NovaKit]:
    with NovaKit() as made:
        yield made


class Board:
    """One server of the kit."""

    def __init__(self, kit: NovaKit, server: Server) -> None:
        self.kit, self.server, self.id = kit, server, str(server.instance.uuid)
        self.debugging: Debugging = kit.driver._debugging

    @property
    def domain(self) -> Any:
        return self.find(self.id)

    def find(self, server: str) -> Any:
        return self.kit.driver._host.get_connection().lookupByUUIDString(server)

    @property
    def file(self) -> Path:
        return self.kit.folder / "debug" / f"{self.id}.json"

    @property
    def session(self) -> Session:
        session = self.debugging.find(self.id)
        assert session
        return session

    def start(self, request: str = "") -> None:
        self.server.instance.metadata = {KEY: request} if request else {}
        self.kit.start(self.server)
        # The kit's conductor deletes nothing.
        self.server.instance.metadata = {}

    def count(self) -> int:
        """What the guest has counted to."""
        import libvirt_qemu

        text = libvirt_qemu.qemuMonitorCommand(
            self.domain,
            "info registers",
            libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
        )
        return int(text.partition("X00=")[2].split()[0], 16)

    def counts(self) -> bool:
        before = self.count()
        time.sleep(0.2)
        return self.count() > before

    def gdb(self, *commands: str) -> str:
        """What gdb says to these commands; it leaves by itself after them."""
        words = [sys.executable, str(BRIDGE), str(self.session.port), self.session.secret]
        more = [word for command in commands for word in ("-ex", command)]
        done = subprocess.run(
            [
                *("gdb-multiarch", "-nx", "-batch", "-ex", "set remotetimeout 30"),
                *("-ex", f"target remote | {shlex.join(words)}", *more),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr

    def knock(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.session.port), timeout=20)
        connection.sendall(data)
        return connection

    def enter(self) -> socket.socket:
        """A connection to the stub, after the secret."""
        connection = self.knock(f"CONNECT /{self.session.secret} HTTP/1.1\r\n\r\n".encode())
        assert connection.recv(4096) == b"HTTP/1.1 200 OK\r\n\r\n"
        return connection

    def end_time(self, seconds: float) -> None:
        self.session.extend(time.time() + seconds)


def closed(connection: socket.socket) -> bool:
    """The other side says nothing and hangs up."""
    with suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


def set_breakpoint(connection: socket.socket) -> None:
    """As gdb does, at the loop."""
    connection.sendall(packet(b"Z0,%x,4" % LOOP))
    answer = b""
    while b"OK" not in answer:
        more = connection.recv(16)
        assert more, answer
        answer += more


@pytest.fixture
def board(kit: NovaKit, tmp_path: Path) -> Iterator[Callable[[], Board]]:
    made: list[Board] = []
    kernel = tmp_path / "Image"
    kernel.write_bytes(counting_kernel())

    def make() -> Board:
        properties = {
            "hw_architecture": "aarch64",
            "hw_emulation_architecture": "aarch64",
            "hw_machine_type": "virt",
        }
        made.append(Board(kit, kit.server(properties, Disks(kernel=kernel), memory=128)))
        return made[-1]

    yield make
    for each in made:
        kit.destroy(each.server)
        each.debugging.close(each.id)


def test_from_the_first_instruction(board: Callable[[], Board]) -> None:
    one = board()
    one.start("5 stop-at-start")
    # Nova waits for this state after each start.
    assert one.kit.driver.get_info(one.server.instance).state == 1
    assert one.domain.info()[0] == 3  # paused
    said = one.gdb(
        "info registers pc",
        f"break *{LOOP:#x}",
        "continue",
        "print $x0",
        "continue",
        "print $x0",
        "monitor info version",
        "detach",
    )
    assert f"pc             {RESET:#x}" in said
    assert said.count("Breakpoint 1, ") == 2, said
    assert "$1 = 0\n" in said
    assert "$2 = 1\n" in said
    assert "Target does not support this command" in said
    eventually(lambda: one.session.record.phase is Phase.FREE, "gdb is gone")
    assert one.counts()


def test_a_server_that_runs_is_stopped_and_goes_on(board: Callable[[], Board]) -> None:
    one = board()
    one.start()
    eventually(one.counts, "it counts")
    one.debugging.open(one.id, 5)
    assert one.counts()
    said = one.gdb("print $x0 > 0", "x/2i $pc", "kill")
    assert "$1 = 1\n" in said
    assert "add\tx0, x0, #0x1" in said
    eventually(one.counts, "it counts on, though gdb wished it dead")


def test_a_gdb_that_vanishes_leaves_no_breakpoint(board: Callable[[], Board]) -> None:
    one = board()
    one.start()
    one.debugging.open(one.id, 5)
    with one.enter() as connection:
        set_breakpoint(connection)
        assert not one.counts()
        assert one.kit.driver.get_info(one.server.instance).state == 1
    eventually(lambda: one.session.record.phase is Phase.FREE, "it noticed")
    assert one.counts()


def test_only_with_the_secret_only_to_its_own_and_only_one(board: Callable[[], Board]) -> None:
    one, other = board(), board()
    for each in (one, other):
        each.start()
        each.debugging.open(each.id, 5)
    assert one.session.port != other.session.port
    foreign = f"CONNECT /{other.session.secret} HTTP/1.1\r\n\r\n".encode()
    for wrong in (b"$g#67", b"GET / HTTP/1.1\r\n\r\n", foreign, b"x" * 4096):
        with one.knock(wrong) as connection:
            connection.shutdown(socket.SHUT_WR)
            assert closed(connection), wrong
    assert one.counts()
    with one.enter():
        word = f"CONNECT /{one.session.secret} HTTP/1.1\r\n\r\n".encode()
        with one.knock(word) as second:
            assert closed(second)
        assert not one.counts()
        assert other.counts()


def test_when_the_time_is_over(board: Callable[[], Board]) -> None:
    one, held = board(), board()
    one.start()
    held.start("5 stop-at-start")
    one.debugging.open(one.id, 5)
    assert one.file.stat().st_mode & 0o777 == 0o600
    port = one.session.port
    with one.enter() as connection:
        one.end_time(1)
        assert closed(connection)
    held.end_time(0)
    for each in (one, held):
        eventually(lambda each=each: not each.file.exists(), "all is closed")  # type: ignore[misc]
        assert each.debugging.find(each.id) is None
        assert each.counts()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_when_the_server_stops(board: Callable[[], Board]) -> None:
    one = board()
    one.start()
    one.debugging.open(one.id, 5)
    with one.enter() as connection:
        one.domain.destroy()
        while connection.recv(4096):  # QEMU says goodbye
            pass
    eventually(lambda: not one.file.exists(), "it is closed")
    assert one.debugging.find(one.id) is None
    one.debugging.open(one.id, 5)
    assert one.debugging.find(one.id) is None


@pytest.mark.parametrize("over", [False, True])
def test_after_nova_compute_was_killed_with_gdb_connected(
    board: Callable[[], Board], over: bool, tmp_path: Path
) -> None:
    one = board()
    one.start()
    with gdbstub.connect(one.domain) as gdb:
        set_breakpoint(gdb)
    assert not one.counts()
    until = time.time() + (-1 if over else 60)
    record = Record(one.id, one.domain.ID(), until, Phase.ATTACHED)
    (tmp_path / f"{one.id}.json").write_text(json.dumps(asdict(record)))
    again = Debugging(tmp_path, "127.0.0.1", one.find)
    assert one.counts()
    assert (again.find(one.id) is None) is over
    again.close(one.id)
    assert not list(tmp_path.glob("*.json"))
