"""Debugging a server with gdb: who asked for it, for how long, and the way to QEMU's stub.

All of it goes through Nova's public API, so owner and administrator are whom Nova takes for them.
A metadata item of the server is the request (gdbrequest.py); whoever asks for a console of type
webmks, which libvirt does not have, is connected. Nova's console proxy carries it through the
gateway, as it does any console.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import libvirt
from nova.exception import HypervisorUnavailable

from dozencloud.compute.debugging import gdbstub
from dozencloud.compute.debugging.gdbrequest import KEY, request
from dozencloud.compute.debugging.gdbserial import EndRequested, Gate, ProtocolError

LOG = logging.getLogger(__name__)
NOT_RUNNING = -1
"""libvirt's number of a domain that does not run."""
STEP_SECONDS = 1
"""How late the end of the time or of the server may be noticed."""
SETTLE_TRIES = 30
"""One each STEP_SECONDS, while libvirtd is away."""
SEND_SECONDS = 30
HANDSHAKE_SECONDS = 5
HANDSHAKE_BYTES = 1024
HANDSHAKES = 8
"""Connections that have not said the secret yet, at the same time."""
PIECE = 64 * 1024  # bytes
FAILURES = (OSError, libvirt.libvirtError, HypervisorUnavailable)


class Phase(StrEnum):
    FREE = "free"
    HELD = "held"
    """Waits before its first instruction for the first gdb."""
    ATTACHED = "attached"


@dataclass(frozen=True)
class Record:
    """What must outlive nova-compute, so that nothing stays open or stopped."""

    server: str
    domain: int
    """libvirt's number of the running domain: another one after each start."""
    until: float
    """Seconds since 1970."""
    phase: Phase


class Session:
    """One server, open for gdb until its time is over or it stops.

    Listens on loopback, and lets in who begins with the secret, which only Nova's console proxy
    gets to know: `CONNECT /SECRET HTTP/1.1`, as for each console with an internal_access_path.
    """

    def __init__(
        self, record: Record, address: str, domain: Callable[[str], Any], path: Path
    ) -> None:
        self.record = record
        self.secret = secrets.token_urlsafe(32)
        self._domain, self._path = domain, path
        self._ending = threading.Event()
        self._gdb = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._keep()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cut gdb off, let the server run; returns when that is done."""
        self._ending.set()
        self._thread.join()

    def extend(self, until: float) -> None:
        """Another end of the time; gdb stays connected."""
        self._keep(until=until)

    @property
    def stops_server(self) -> bool:
        return self.record.phase is not Phase.FREE

    def _keep(self, **changes: Any) -> None:
        with self._writing:
            if self._closed:
                return
            self.record = replace(self.record, **changes)
            new = self._path.with_suffix(".new")
            new.touch(0o600)
            new.write_text(json.dumps(asdict(self.record)))
            new.replace(self._path)

    def is_open(self) -> bool:
        return (
            not self._ending.is_set()
            and time.time() < self.record.until
            and runs(self._domain, self.record)
        )

    def _run(self) -> None:
        with self._listener:
            while self.is_open():
                if not select.select([self._listener], [], [], STEP_SECONDS)[0]:
                    continue
                try:
                    connection, _ = self._listener.accept()
                except OSError:  # it went away again
                    continue
                if self._handshakes.acquire(blocking=False):
                    threading.Thread(target=self._meet, args=(connection,), daemon=True).start()
                else:
                    connection.close()
        self._ending.set()
        with self._gdb:
            for _ in range(SETTLE_TRIES):
                if settle(self._domain, self.record):
                    break
                time.sleep(STEP_SECONDS)
        with self._writing:
            self._closed = True
            self._path.unlink(missing_ok=True)
        LOG.info("Debugging of server %s is closed", self.record.server)

    def _meet(self, connection: socket.socket) -> None:
        """A new connection: it must say the secret, and be the only one."""
        with connection:
            try:
                known = self._knows_secret(connection)
            finally:
                self._handshakes.release()
            if not known or not self._gdb.acquire(blocking=False):
                return
            try:
                if not self._ending.is_set():
                    self._debug(connection)
            except FAILURES as error:
                LOG.warning("gdb of server %s: %s", self.record.server, error)
            finally:
                self._gdb.release()

    def _knows_secret(self, connection: socket.socket) -> bool:
        end = time.monotonic() + HANDSHAKE_SECONDS
        head = b""
        with suppress(OSError):
            while not head.endswith(b"\r\n\r\n") and len(head) < HANDSHAKE_BYTES:
                if (left := end - time.monotonic()) <= 0:
                    return False
                connection.settimeout(left)
                if not (byte := connection.recv(1)):
                    return False
                head += byte
        expected = f"CONNECT /{self.secret} HTTP/1.1\r\n\r\n".encode()
        return hmac.compare_digest(head, expected)

    def _debug(self, connection: socket.socket) -> None:
        domain = self._domain(self.record.server)
        paused = self.record.phase is Phase.FREE and is_paused(domain)
        self._keep(phase=Phase.ATTACHED)
        try:
            with gdbstub.connect(domain) as stub:
                connection.settimeout(SEND_SECONDS)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self._carry(connection, stub)
        finally:
            if settle(self._domain, self.record):
                self._keep(phase=Phase.FREE)
                if paused and runs(self._domain, self.record):
                    domain.suspend()

    def _carry(self, connection: socket.socket, stub: socket.socket) -> None:
        """Both ways, until one side is gone, the time is over, or gdb asks for what it may not."""
        gate = Gate()
        while not self._ending.is_set():
            for ready in select.select([connection, stub], [], [], STEP_SECONDS)[0]:
                if not (data := ready.recv(PIECE)):
                    return
                if ready is stub:
                    connection.sendall(data)
                    continue
                try:
                    onward, back = gate.take(data)
                except (EndRequested, ProtocolError):
                    return
                stub.sendall(onward)
                connection.sendall(back)


def runs(domain: Callable[[str], Any], record: Record) -> bool:
    """The server still runs as it did when it was opened; while libvirtd is away, it does."""
    try:
        return bool(domain(record.server).ID() == record.domain)
    except HypervisorUnavailable:
        return True
    except libvirt.libvirtError as error:
        return bool(error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN)


def is_paused(domain: Any) -> bool:
    return bool(domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED)


def settle(domain: Callable[[str], Any], record: Record) -> bool:
    """Let a server run on that waits for gdb, or that a gdb that is gone has stopped."""
    if record.phase is Phase.FREE or not runs(domain, record):
        return True
    try:
        found = domain(record.server)
        if record.phase is Phase.HELD:
            found.resume()
        else:
            gdbstub.release(found)
    except FAILURES as error:
        LOG.warning("Server %s does not run on after gdb yet: %s", record.server, error)
        return False
    return True


class Held:
    """A guest of Nova's that was started paused for gdb and stays so when Nova resumes it."""

    def __init__(self, guest: Any) -> None:
        self._guest = guest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guest, name)

    def resume(self) -> None:
        """gdb lets it run, or the end of the time."""


class Debugging:
    """The sessions of all servers on this host.

    folder: for their records. address: where they listen. domain: finds one by its server's id.
    """

    def __init__(self, folder: Path, address: str, domain: Callable[[str], Any]) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder, self._address, self._domain = folder, address, domain
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        for path in folder.glob("*.json"):
            self._take_up(path)

    def console(self, instance: Any) -> Session | None:
        """Where Nova's proxy finds the server's stub, after what the metadata item asks for."""
        asked = request(instance.metadata)
        if asked and not asked.at_start:
            instance.delete_metadata_key(KEY)
            if asked.minutes:
                self.open(instance.uuid, asked.minutes)
            else:
                self.close(instance.uuid)
        return self.find(instance.uuid)

    def started(self, instance: Any) -> None:
        """The instance was launched, paused because its request says `stop-at-start`."""
        if asked := request(instance.metadata):
            self.open(instance.uuid, asked.minutes, hold=True)
            instance.delete_metadata_key(KEY)

    def open(self, server: str, minutes: int, *, hold: bool = False) -> None:
        """Open the server for gdb, if it runs; one that is open gets the new time.

        hold: it was started paused and runs when gdb says so.
        """
        until = time.time() + minutes * 60
        if session := self.find(server):
            session.extend(until)
            return
        self.close(server)
        number = self._domain(server).ID()
        if number == NOT_RUNNING:
            return
        phase = Phase.HELD if hold else Phase.FREE
        self._start(Record(server, number, until, phase))
        LOG.info("Server %s is open for gdb for %d min", server, minutes)

    def close(self, server: str) -> None:
        with self._lock:
            session = self._sessions.pop(server, None)
        if session:
            session.close()

    def find(self, server: str) -> Session | None:
        """The open session of the server."""
        with self._lock:
            session = self._sessions.get(server)
        return session if session and session.is_open() else None

    def stops(self, server: str) -> bool:
        """The server does not run because of a debugger."""
        session = self.find(server)
        return bool(session and session.stops_server)

    def _start(self, record: Record) -> None:
        path = self._folder / f"{record.server}.json"
        session = Session(record, self._address, self._domain, path)
        with self._lock:
            self._sessions[record.server] = session

    def _take_up(self, path: Path) -> None:
        """What was open when nova-compute ended. gdb was cut off then: no server waits for it."""
        record = Record(**json.loads(path.read_text()))
        record = replace(record, phase=Phase(record.phase))
        over = time.time() >= record.until or not runs(self._domain, record)
        if over or record.phase is Phase.ATTACHED:
            settle(self._domain, record)
            record = replace(record, phase=Phase.FREE)
        if over:
            path.unlink()
        else:
            self._start(record)
