"""Watches servers after power-on, and says why one hangs. It never touches a server.

Time is counted in seconds of processor time that a server used: a busy host makes it later,
never wrong.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import nova.conf
from lxml import etree
from nova.compute.utils import add_instance_fault_from_exc
from nova.context import get_admin_context
from nova.exception import HypervisorUnavailable, NovaException
from nova.objects.instance_action import InstanceAction, InstanceActionEvent
from oslo_config import cfg
from oslo_log import log

from dozencloud.compute import bootfiles
from dozencloud.compute.hang import symptoms
from dozencloud.compute.hang.registers import Processor, parse, where
from dozencloud.compute.hang.symptoms import HANG, TAIL, Finding, PowerOn

CONF = nova.conf.CONF
CONF.register_opts(
    [
        cfg.IntOpt(
            "hang_seconds",
            default=20,
            min=0,
            help="Seconds of processor time that a server may use after power-on without a byte "
            "on its console; 0: servers are not watched.",
        )
    ],
    "dozencloud",
)
LOG = log.getLogger(__name__)

MESSAGE_LENGTH = 255
"""Of a message in Nova's tables (nova/db/main/models.py, InstanceAction)."""
POLL = 3.0
"""Seconds from one look at the servers to the next."""
BUSY = 0.2
"""Share of one CPU from which on a server is busy; an idle one uses a few hundredths."""
RECENT = 4
"""Looks over which that share is taken."""
QUIET = 10.0
"""Seconds without a byte after which what was said last counts as the last word.

UEFI's shell counts down 5 s and says every one of them.
"""
DONE = 60.0
"""Seconds after which a server that neither speaks nor works is where it wanted to be."""
LIMIT = 900.0
"""Seconds after power-on when the watch ends in any case."""
LONGEST = 8
"""Times the patience that a server gets which may only be slow."""
LOOKS = 3
"""At the registers of a server, and seconds between two of them."""
LOOK_AGAIN = 0.3


@dataclass(frozen=True)
class Sample:
    """at: seconds, monotonic. cpu: seconds of processor time used. said: bytes of the console."""

    at: float
    cpu: float
    said: int


class Next(StrEnum):
    """What a sample asks for."""

    WAIT = "wait"
    EXPLAIN = "explain"
    """Busy and silent for too long."""
    LISTEN = "listen"
    """It spoke since: what it said may be final."""
    READ = "read"
    """It has become quiet: what it said last may tell that it is stuck."""
    END = "end"


class Progress:
    """One server since power-on. patience: seconds of processor time that it may be silent."""

    def __init__(self, patience: float) -> None:
        self._patience, self._most = patience, LONGEST * patience
        self._recent: deque[Sample] = deque(maxlen=RECENT)
        self._first: Sample | None = None
        self._spoke: Sample | None = None

    def look(self, now: Sample) -> Next:
        """Judge the next sample."""
        self._first = self._first or now
        self._recent.append(now)
        if now.at - self._first.at > LIMIT:
            return Next.END
        if not now.said:
            return Next.EXPLAIN if self._busy() and now.cpu >= self._patience else Next.WAIT
        if self._spoke is None or now.said != self._spoke.said:
            self._spoke = now
            return Next.LISTEN
        quiet = now.at - self._spoke.at
        if quiet >= DONE and not self._busy():
            return Next.END
        return Next.READ if quiet >= QUIET else Next.WAIT

    def wait_longer(self) -> bool:
        """Have twice the patience, unless that is too much."""
        self._patience *= 2
        return self._patience <= self._most

    def _busy(self) -> bool:
        first, last = self._recent[0], self._recent[-1]
        return len(self._recent) == RECENT and last.cpu - first.cpu >= BUSY * (last.at - first.at)


@dataclass
class Watched:
    """A server under watch. subject: Nova's instance. domain: libvirt's id of this power-on."""

    subject: Any
    console: Path
    progress: Progress
    domain: int | None = None


Report = Callable[[Any, Finding, str], None]


class Watchdog:
    """One thread for all servers, which lives only while there is one to watch.

    connect: gives libvirt's connection. report: takes instance, finding and what was seen.
    patience: see `hang_seconds`; 0 watches nothing.
    """

    def __init__(self, connect: Callable[[], Any], report: Report, patience: float) -> None:
        self._connect, self._report, self._patience = connect, report, patience
        self._lock = threading.Lock()
        self._servers: dict[str, Watched] = {}
        self._thread: threading.Thread | None = None

    def watch(self, instance: Any, console: Path) -> None:
        """Begin anew with a server that was just started."""
        if not self._patience:
            return
        with self._lock:
            self._servers[instance.uuid] = Watched(instance, console, Progress(self._patience))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hang", daemon=True)
                self._thread.start()

    def forget(self, uuid: str) -> None:
        """Do not watch it any more."""
        with self._lock:
            self._servers.pop(uuid, None)

    def _run(self) -> None:
        while True:
            time.sleep(POLL)
            with self._lock:
                servers = dict(self._servers)
                if not servers:
                    self._thread = None
                    return
            for uuid, server in servers.items():
                try:
                    over = self._look(uuid, server)
                except HypervisorUnavailable:
                    over = False
                except Exception:
                    # One server's trouble must not end the watch over the others.
                    LOG.exception("The watch over a server failed", instance=server.subject)
                    over = True
                if over:
                    self._end(uuid, server)

    def _end(self, uuid: str, server: Watched) -> None:
        with self._lock:
            if self._servers.get(uuid) is server:
                del self._servers[uuid]

    def _look(self, uuid: str, server: Watched) -> bool:
        """Look at one server; whether its watch is over."""
        domain = _running(self._connect(), uuid)
        if domain is None:
            return True
        server.domain = server.domain or domain.ID()
        if domain.ID() != server.domain:
            return True
        sample = Sample(time.monotonic(), domain.info()[4] / 1e9, _size(server.console))
        step = server.progress.look(sample)
        if step in (Next.WAIT, Next.END):
            return step is Next.END
        if step is Next.EXPLAIN:
            finding, seen = explain_silence(domain, sample)
            if finding and not finding.sure and server.progress.wait_longer():
                return False
        else:
            console = tail(server.console)
            if symptoms.has_come_up(console):
                return True
            finding = symptoms.from_console(console, quiet=step is Next.READ)
            if finding is None:
                return False
            finding = symptoms.with_disk(finding, start_of(domain.XMLDesc()))
            seen = "The last words of its console: " + " / ".join(symptoms.last_lines(console, 3))
        if finding:
            self._report(server.subject, finding, seen)
        return True


def _running(connection: Any, uuid: str) -> Any:
    """libvirt's domain if it runs."""
    import libvirt  # linked into the environment only once a node is set up

    try:
        domain = connection.lookupByUUIDString(uuid)
        return domain if domain.isActive() else None
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise HypervisorUnavailable from error


def _size(console: Path) -> int:
    try:
        return console.stat().st_size
    except FileNotFoundError:
        return 0


def tail(console: Path) -> str:
    """The end of a console log."""
    with console.open("rb") as file:
        file.seek(max(0, console.stat().st_size - TAIL))
        return file.read().decode(errors="replace")


def explain_silence(domain: Any, sample: Sample) -> tuple[Finding | None, str]:
    """Why a domain is busy and silent (None: that is usual), and what was seen of it."""
    start = start_of(domain.XMLDesc())
    looks = list(registers(domain))
    place = where(looks, firmware=start.firmware)
    seen = (
        f"{start.architecture} under {start.accelerator}, {sample.cpu:.0f} s of processor time, "
        f"no byte on the console; processor {place}: {', '.join(map(str, looks)) or 'not read'}"
    )
    return symptoms.from_silence(start, place), seen


def registers(domain: Any) -> Iterator[Processor]:
    """A few looks at a domain's first CPU. The guest runs on; QEMU reads between two steps."""
    import libvirt_qemu

    for number in range(LOOKS):
        if number:
            time.sleep(LOOK_AGAIN)
        text = libvirt_qemu.qemuMonitorCommand(
            domain, "info registers", libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        )
        if found := parse(text):
            yield found


def start_of(xml: str) -> PowerOn:
    """How a running domain was started; its boot file is inspected."""
    domain = etree.fromstring(xml.encode())
    start = bootfiles.parse(xml)
    found = bootfiles.inspected(start)
    kernel = start.kernel is not None
    return PowerOn(
        architecture=start.arch,
        accelerator=domain.get("type"),
        firmware=start.firmware,
        kernel=kernel,
        command_line=domain.findtext("os/cmdline") or "",
        found=(found.arch or "") if found else "",
        reason=found.reason if found and not kernel else "",
    )


def record(instance: Any, finding: Finding, seen: str) -> None:
    """Tell it where people look: the server's actions, its fault, the log.

    The action's message is for the owner; Nova shows an event's details to administrators.
    """
    LOG.warning("It hangs: %s (%s)", finding, seen, instance=instance)
    context = get_admin_context()
    now = datetime.now(UTC)
    InstanceAction(
        context,
        action=HANG,
        instance_uuid=instance.uuid,
        request_id=context.request_id,
        project_id=instance.project_id,
        user_id=None,
        start_time=now,
        message=shortened(finding),
    ).create()
    InstanceActionEvent(
        context,
        event=f"{HANG}_{finding.code.replace('-', '_')}",
        start_time=now,
        finish_time=now,
        result="Error",
        host=CONF.host,
        details=f"{finding} {seen}",
    ).create(instance.uuid, context.request_id)
    add_instance_fault_from_exc(
        context, instance, NovaException(str(finding)), fault_message=str(finding)
    )


def shortened(finding: Finding) -> str:
    """As much of a finding as a message holds; the cause before the next step."""
    whole = str(finding)
    return whole if len(whole) <= MESSAGE_LENGTH else finding.cause[:MESSAGE_LENGTH]
