"""supervisord, with three things added: preloading, an end for its children when it ends, and
another try, each minute, of a service that kept dying: what it lacked may be there again.

A bug that keeps one core busy is gone too (`Options.make_pipes`). Services are confined as they
start (`Options.drop_privileges`, `Options.execve`), and what they write is made harmless before it
is in their logs (`Output`).

Preloading: the parent imports the libraries that every OpenStack service shares; a Python service
is then a fork of it instead of a new interpreter, and shares those pages (copy on write). Only
libraries are loaded before the fork: services register options on one global object
(oslo.config's cfg.CONF), and nova refuses to start where eventlet is already imported.

Added through methods of `ServerOptions`, of `POutputDispatcher` and an RPC interface, which
upstream.py lists.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from supervisor import dispatchers, events, supervisord
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates, SupervisorStates

from dozencloud import legible
from dozencloud.host.confinement import CONFINED, Confinement, drop_capabilities
from dozencloud.supervision import serve

SERVE = "dozencloud.supervision.serve"
PR_SET_PDEATHSIG = 1  # prctl(2)

# What the services of the pinned releases import before any module of their own; found by
# comparing sys.modules of the running services, less whatever pulls eventlet in.
COMPUTE = (
    "bcrypt",
    "cryptography.hazmat.backends.openssl.backend",
    "cryptography.x509",
    "decimal",
    "dogpile.cache",
    "futurist",
    "http.server",
    "jsonschema",
    "keystoneauth1.identity.v3",
    "keystoneauth1.loading",
    "keystoneauth1.session",
    "lxml.etree",
    "netaddr",
    "openstack",
    "openstack.config",
    "oslo_cache.core",
    "oslo_concurrency.lockutils",
    "oslo_concurrency.processutils",
    "oslo_config.cfg",
    "oslo_context.context",
    "oslo_db.options",
    "oslo_db.sqlalchemy.enginefacade",
    "oslo_limit.limit",
    "oslo_log.log",
    "oslo_messaging",
    "oslo_messaging.rpc",
    "oslo_middleware",
    "oslo_policy.policy",
    "oslo_privsep.daemon",
    "oslo_privsep.priv_context",
    "oslo_reports.guru_meditation_report",
    "oslo_serialization.jsonutils",
    "oslo_utils.timeutils",
    "oslo_versionedobjects.base",
    "osprofiler.opts",
    "pbr.version",
    "psutil",
    "requests",
    "rfc3986",
    "sqlalchemy",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.orm",
    "stevedore",
    "urllib3",
    # No library, but os_vif.internal asks `inspect` who imports it: that writes to 14 MiB of pages,
    # in each process where it comes after the fork.
    "vif_plug_ovs.linux_net",
    "webob",
    "yaml",
)
"""What every machine needs."""
CONTROL = (
    "alembic",
    "cheroot.wsgi",
    "cryptography.fernet",
    "keystoneclient.client",
    "keystonemiddleware.auth_token",
    "memcache",
    "oslo_upgradecheck.upgradecheck",
    "paste.deploy",
    "pymysql",
    "routes",
)
"""What a controller needs, too: 15 MiB."""


class NoEventlet:
    """Import hook that hides eventlet from libraries that would use it if it is there."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "eventlet":
            raise ImportError("eventlet stays out of the preloading parent")


def preload(names: Sequence[str]) -> list[str]:
    """Import these modules; returns those that could not be, with the reason (none is fatal)."""
    hook = NoEventlet()
    sys.meta_path.insert(0, hook)
    failed = []
    try:
        from oslo_service import backend

        # Before oslo.messaging, which asks for the backend when it is imported.
        backend.init_backend(backend.BackendType.THREADING)
        for name in names:
            try:
                importlib.import_module(name)
            except Exception as error:
                failed.append(f"{name}: {error}")
    finally:
        sys.meta_path.remove(hook)
    # Pages that the collector never visits again stay shared after the fork.
    gc.collect()
    gc.freeze()
    return failed


class Interface:
    """RPC namespace `dozen`: what supervisor itself does not tell or do."""

    def __init__(self, supervisor: Any) -> None:
        self.supervisor = supervisor
        self.starts: Counter[str] = Counter()
        self.dying: set[str] = set()
        self.failed: list[str] = []
        self.thread: threading.Thread | None = None
        events.subscribe(events.ProcessStateStartingEvent, self._started)
        for kind in (
            events.ProcessStateExitedEvent,
            events.ProcessStateBackoffEvent,
            events.ProcessStateStoppedEvent,
        ):
            events.subscribe(kind, self._ended)
        events.subscribe(events.ProcessStateBackoffEvent, self._died_young)
        for kind in (events.ProcessStateRunningEvent, events.ProcessStateStoppedEvent):
            events.subscribe(kind, self._recovered)
        events.subscribe(events.Tick60Event, self._try_again)

    def _started(self, event: Any) -> None:
        self.starts[event.process.config.name] += 1

    def _died_young(self, event: Any) -> None:
        self.dying.add(event.process.config.name)

    def _recovered(self, event: Any) -> None:
        self.dying.discard(event.process.config.name)

    def _try_again(self, event: Any) -> None:
        """Start what supervisord has given up: the disk was full, a network was away."""
        if self.supervisor.options.mood < SupervisorStates.RUNNING:
            return  # it ends
        for group in self.supervisor.process_groups.values():
            for process in group.processes.values():
                if process.get_state() == ProcessStates.FATAL:
                    process.spawn()

    def _ended(self, event: Any) -> None:
        """End what is left of the process group, which its leader's pid names.

        nginx's worker and RabbitMQ's virtual machine outlive a killed leader, and would keep its
        ports from its successor.
        """
        for output in event.process.dispatchers.values():
            output.close()  # with its last, unfinished line
        # 0 after a fork that failed; killpg(0) would be our own group.
        if event.process.pid:
            with suppress(ProcessLookupError):
                os.killpg(event.process.pid, signal.SIGKILL)

    def getLives(self) -> dict[str, dict[str, Any]]:  # noqa: N802 (supervisor's naming)
        """Of each program that this supervisor started: how often, and whether it is dying.

        It is if its last start came to nothing: also while it is tried again.
        """
        return {
            name: {"starts": count, "dying": name in self.dying}
            for name, count in self.starts.items()
        }

    def preload(self, control: bool) -> bool:
        """Begin to load the shared libraries, once; `control`: those of a controller, too.

        In a thread, so that the programs that need no Python can be started meanwhile; nothing is
        forked without exec until it has ended.
        """
        if self.thread is None:
            names = COMPUTE + (CONTROL if control else ())
            self.thread = threading.Thread(target=lambda: self.failed.extend(preload(names)))
            self.thread.start()
        return True

    def preloaded(self) -> dict[str, Any]:
        """Whether the libraries are loaded, and those that could not be."""
        return {"done": self.is_preloaded, "failed": self.failed}

    @property
    def is_preloaded(self) -> bool:
        return self.thread is not None and not self.thread.is_alive()


class Output(dispatchers.POutputDispatcher):  # type: ignore[misc]
    """What a service writes, on its way into the log: whole lines, which `legible` looks at."""

    output_buffer: bytes
    LONGEST = 64 * 1024  # bytes without a line end

    def record_output(self) -> None:
        """Called when there is more in `output_buffer`."""
        whole, end, rest = self.output_buffer.rpartition(b"\n")
        if len(rest) > self.LONGEST:
            whole, end, rest = self.output_buffer, b"", b""
        self._record(whole + end)
        self.output_buffer = rest

    def close(self) -> None:
        if not self.closed:
            self._record(self.output_buffer)
        super().close()

    def _record(self, lines: bytes) -> None:
        self.output_buffer = legible.log_lines(lines)
        super().record_output()  # empties it


INTERFACE: Interface | None = None


def make_interface(supervisor: Any, **config: Any) -> Interface:
    """Factory that `[rpcinterface:dozen]` in supervisord.conf names."""
    global INTERFACE
    if INTERFACE is None:
        INTERFACE = Interface(supervisor)
    return INTERFACE


class Options(ServerOptions):  # type: ignore[misc]  # supervisor has no type hints
    """supervisord's operating system calls, with `execve` replaced for our own services."""

    def make_pipes(self, stderr: bool = True) -> dict[str, int | None]:
        """Give a child the null device as its input.

        Nobody writes to a service. Supervisor's poller forgets no descriptor whose process has
        ended; when the number comes back as the pipe to some child's input, and that child closes
        it, poll(2) reports POLLERR, which the poller does not know, without end: one busy core.
        """
        pipes: dict[str, int | None] = super().make_pipes(stderr)
        for name in ("stdin", "child_stdin"):
            self.close_fd(pipes[name])
        return {**pipes, "stdin": None, "child_stdin": os.open(os.devnull, os.O_RDONLY)}

    def drop_privileges(self, user: object) -> str | None:
        """Called in the child, and in the parent at its start, which stays root."""
        if user and str(user) not in ("0", "root"):
            drop_capabilities()
        failed: str | None = super().drop_privileges(user)
        return failed

    def execve(self, filename: str, argv: list[str], env: dict[str, str]) -> None:
        """Called in the child, after the user was switched."""
        confined = env.pop(CONFINED, None)
        if confined is not None:
            try:
                Confinement.from_text(confined).enter()
            except OSError as error:
                why = f"It cannot be confined: {error}. That takes libseccomp2, and a kernel"
                self.write(2, f"{why} with filters of system calls (CONFIG_SECCOMP_FILTER).\n")
                raise
        # Without this, a killed supervisor would leave a control plane that nobody watches and
        # that dies one by one of SIGPIPE.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if INTERFACE and INTERFACE.is_preloaded and argv[1:4] == ["-P", "-m", SERVE]:
            run_in_child(argv[4:], env)
        super().execve(filename, argv, env)


def run_in_child(arguments: list[str], env: dict[str, str]) -> None:
    """Become the service without a new interpreter; never returns. arguments: of `SERVE`."""
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGCHLD, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
        # supervisord has put its own objects there when it became a daemon. Closing ours does not
        # close the descriptors, which a child would get for something else otherwise.
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", 1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        tempfile.tempdir = None  # found by the parent's TMPDIR
        serve.main(arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        # What the interpreter does at its end; this stack frame belongs to supervisord, so
        # returning to it is not possible.
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """`supervisord` with these options."""
    # Before its environment changes: where that is in memory tells setproctitle where the title is.
    serve.name_process("supervisord", *sys.argv[1:])
    os.umask(0o077)  # its logs; each service has its own
    supervisord.ServerOptions = Options
    dispatchers.POutputDispatcher = Output
    supervisord.main(sys.argv[1:])


if __name__ == "__main__":
    # As __main__ this module would exist twice: the RPC factory imports it by its name.
    from dozencloud.supervision import daemon

    daemon.main()
