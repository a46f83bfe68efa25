"""Speaks to this cloud's supervisord: start, stop, watch services."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xmlrpc.client import Fault, ServerProxy

from dozencloud.cloud.guards import need_controller
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import membership_file
from dozencloud.errors import Exit, Problem
from dozencloud.host import processes
from dozencloud.host.confinement import CONFINED, Unconfined
from dozencloud.private import write_private

if TYPE_CHECKING:
    from dozencloud.supervision.service import Service

LOG_BYTES, LOG_BACKUPS = 5 * 1024 * 1024, 2
RETRIES = 6  # supervisor waits 1, 2, 3 … s between them: about 20 s until it gives up
TOO_OFTEN = 3  # starts of one service within one attempt
ALREADY_STARTED, NOT_RUNNING, BAD_NAME, STILL_RUNNING, ALREADY_ADDED = 60, 70, 10, 91, 90


@dataclass(frozen=True)
class Process:
    """A supervised process. state: supervisor's name for it, in lower case.

    started: Unix time; 0 if never.  starts: how often, since the supervisor runs.
    dying: its last start came to nothing; it may be tried again at this moment.
    """

    name: str
    state: str
    pid: int
    started: float
    starts: int
    why: str
    dying: bool = False


def log_file(cloud: Cloud, name: str) -> Path:
    return cloud.log / f"{name}.log"


def last_lines(path: Path, count: int = 12) -> str:
    try:
        with path.open(errors="replace") as file:
            return "".join(deque(file, count)).rstrip()
    except OSError:
        return ""


def variables(service: Service) -> dict[str, str]:
    """Environment of a service, with what the supervisor itself takes out of it."""
    if isinstance(service.confinement, Unconfined):
        return dict(service.environment)
    return {**service.environment, CONFINED: service.confinement.to_text()}


def render(cloud: Cloud, services: Iterable[Service]) -> str:
    """supervisord.conf."""
    head = f"""\
[unix_http_server]
file={cloud.supervisor_socket}
chmod=0600

[supervisord]
logfile={cloud.log}/supervisord.log
logfile_maxbytes={LOG_BYTES}
logfile_backups={LOG_BACKUPS}
pidfile={cloud.run}/supervisord.pid
directory=/
user=root
umask=077

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:dozen]
supervisor.rpcinterface_factory=dozencloud.supervision.daemon:make_interface
"""
    return head + "".join(_program(cloud, service) for service in services)


def _program(cloud: Cloud, service: Service) -> str:
    """Its section in supervisord.conf."""
    environment = ",".join(
        f'{key}="{_quoted(value)}"' for key, value in sorted(variables(service).items())
    )
    return f"""
[program:{service.name}]
command={_quoted(shlex.join(service.command))}
user={service.user}
environment={environment}
directory=/
umask={service.umask:03o}
autostart=false
autorestart=true
startsecs=2
startretries={RETRIES}
stopwaitsecs={service.stop_seconds}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={_quoted(str(log_file(cloud, service.name)))}
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups={LOG_BACKUPS}
"""


def _quoted(text: str) -> str:
    # supervisor expands %(name)s everywhere.
    return text.replace("%", "%%")


class Supervisor:
    """Client of one cloud's supervisord. Every call may raise Problem."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    @property
    def config(self) -> Path:
        return self.cloud.etc / "supervisord.conf"

    def _call(self, method: str, *arguments: object) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.cloud.supervisor_socket}")
        proxy = ServerProxy("http://localhost", transport=transport)
        try:
            target: Any = proxy
            for part in method.split("."):
                target = getattr(target, part)
            return target(*arguments)
        except OSError as error:
            raise Problem(
                "The cloud's supervisor does not answer.",
                f"Run: {self.cloud.command('start')}",
                code=Exit.DEGRADED,
            ) from error
        finally:
            transport.close()

    def alive(self) -> bool:
        try:
            self.cloud.supervisor_socket.stat()
        except OSError:
            return False
        try:
            self._call("supervisor.getState")
        except Problem:
            return False
        return True

    def pid(self) -> int | None:
        try:
            return int((self.cloud.run / "supervisord.pid").read_text())
        except (OSError, ValueError):
            return None

    def write_config(self, services: Sequence[Service]) -> bool:
        """Write supervisord.conf; true if it changed."""
        text = render(self.cloud, services)
        if self.config.exists() and self.config.read_text() == text:
            return False
        write_private(self.config, text)
        return True

    def reload(self) -> None:
        """Make supervisord's programs those of the file; a changed one is stopped."""
        ((added, changed, removed),) = self._call("supervisor.reloadConfig")
        for name in [*removed, *changed]:
            self.stop(name)
            with contextlib.suppress(Fault):
                self._call("supervisor.removeProcessGroup", name)
        for name in [*added, *changed]:
            try:
                self._call("supervisor.addProcessGroup", name)
            except Fault as fault:
                if fault.faultCode != ALREADY_ADDED:
                    raise

    def preload(self, *, control: bool) -> None:
        """Begin to load the libraries that the Python services (of a controller) share."""
        self._call("dozen.preload", control)

    def preloaded(self) -> dict[str, Any]:
        """{"done": bool, "failed": [reason, ...]}."""
        return dict(self._call("dozen.preloaded"))

    def processes(self) -> dict[str, Process]:
        lives = self._call("dozen.getLives")
        return {
            info["name"]: Process(
                name=info["name"],
                state=info["statename"].lower(),
                pid=info["pid"],
                started=info["start"],
                why=info["spawnerr"],
                **lives.get(info["name"], {"starts": 0}),
            )
            for info in self._call("supervisor.getAllProcessInfo")
        }

    def process(self, name: str) -> Process:
        try:
            return self.processes()[name]
        except KeyError:
            raise Problem(
                f"There is no service called {name}.",
                f"See: {self.cloud.command('status')}",
                code=Exit.USAGE,
            ) from None

    def start(self, name: str) -> None:
        """Start, without waiting until it is ready."""
        try:
            self._call("supervisor.startProcess", name, False)
        except Fault as fault:
            if fault.faultCode != ALREADY_STARTED:
                raise Problem(f"{name} cannot be started: {fault.faultString}.") from fault

    def stop(self, name: str) -> None:
        """Stop and wait until it has ended."""
        try:
            self._call("supervisor.stopProcess", name, True)
        except Fault as fault:
            if fault.faultCode not in (NOT_RUNNING, BAD_NAME):
                raise Problem(f"{name} cannot be stopped: {fault.faultString}.") from fault

    def signal_stop(self, name: str) -> None:
        """Ask to stop, do not wait."""
        with contextlib.suppress(Fault):
            self._call("supervisor.stopProcess", name, False)

    def shutdown(self, seconds: float = 60) -> None:
        """Stop every service and supervisord itself."""
        pid = self.pid()
        with contextlib.suppress(Problem, Fault):
            self._call("supervisor.shutdown")
        end = time.monotonic() + seconds
        while pid and time.monotonic() < end and processes.alive(pid):
            time.sleep(0.05)

    def check(self, name: str, before: int = 0) -> None:
        """Raise Problem, with its last log lines, for a service that keeps dying.

        before: how often it had been started when the caller began to watch.
        """
        process = self.process(name)
        if process.state in ("fatal", "unknown") or process.starts - before > TOO_OFTEN:
            path = log_file(self.cloud, name)
            raise Problem(
                f"The service {name} keeps dying.",
                f"Its whole log: {path}",
                detail=last_lines(path),
                code=Exit.DEGRADED,
            )


def clean_environment(cloud: Cloud) -> dict[str, str]:
    """Environment of all services: no proxy (they speak on loopback), nobody's Python settings."""
    name, _, value = cloud.marker.partition("=")
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TZ": os.environ.get("TZ", ""),
        "PYTHONWARNINGS": "ignore",
        name: value,
    }


def need_running(cloud: Cloud, *words: str) -> None:
    """Problem unless the cloud is on this machine, and runs. words: what the person typed."""
    need_controller(cloud, *words)
    need_started(cloud)


def need_started(cloud: Cloud) -> None:
    """Problem unless what is here of the cloud runs: all of it, or a node."""
    if not Supervisor(cloud).alive():
        what = "node" if membership_file(cloud).exists() else "cloud"
        raise Problem(
            f"The {what} is stopped.", f"Run: {cloud.command('start')}", code=Exit.DEGRADED
        )
