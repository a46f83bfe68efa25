"""The services of a machine, from their descriptions to running processes.

What a service was started with is remembered as a fingerprint: a changed setting restarts the
services whose files it changes, and no other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from dozencloud.cloud.plan import Plan
from dozencloud.cloud.state import State, digest
from dozencloud.host import environments, processes, users
from dozencloud.host.network import namespace
from dozencloud.lifecycle import stop
from dozencloud.private import write_private
from dozencloud.services import services
from dozencloud.supervision import systemd
from dozencloud.supervision.client import Supervisor, clean_environment, variables
from dozencloud.supervision.service import SERVE, Folder, Service
from dozencloud.tasks.graph import Step, Task


def make_folder(folder: Folder) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    shutil.chown(folder.path, folder.owner, folder.group)
    folder.path.chmod(folder.mode)


def configure(services: Sequence[Service], step: Step) -> None:
    """Folders and files of these services; a file is written only if it differs."""
    for service in services:
        for folder in service.folders:
            make_folder(folder)
    for file in {f.path: f for s in services for f in s.files}.values():
        if not file.path.exists() or file.path.read_text() != file.content:
            step.log.write(f"{file.path}\n")
            write_private(file.path, file.content, file.mode)
        users.own(file.path, file.owner)
        file.path.chmod(file.mode)


def _settling(service: Service) -> str:
    """Name in the state: an `up` may be killed when the service runs and is not settled yet."""
    return f"settling.{service.name}"


@dataclass
class Running:
    """The services of a plan, and the supervisor that runs them.

    systemd: it runs this machine.
    """

    plan: Plan
    state: State
    systemd: bool

    @cached_property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.plan.cloud)

    @cached_property
    def services(self) -> list[Service]:
        return services(self.plan)

    @cached_property
    def code_fingerprint(self) -> str:
        """Changes with every dependency and with this package (stamps of the launcher)."""
        stamps = [self.plan.environment / name for name in (".dependencies", ".package")]
        return digest(*(s.read_bytes() if s.exists() else b"" for s in stamps))

    @property
    def parent_fingerprint(self) -> str:
        """Of the process that Python services are forked from, or started by."""
        return digest(self.code_fingerprint, self.plan.cloud.settings.services.preload)

    def start_supervisor(self, step: Step) -> None:
        """Start it, or give it the new list; all services stop where their parent has changed."""
        environments.use(self.plan.cloud, self.state, self.plan.environment)
        if self.supervisor.alive():
            if self.state.get("supervisor") == self.parent_fingerprint:
                self.supervisor.reload()
                return
            step.note("the services to stop: what they are forked from has changed")
            stop.stop_services(self.plan.cloud)
        processes.end(self.plan.cloud)
        self.supervisor.cloud.supervisor_socket.unlink(missing_ok=True)
        daemon = [
            self.plan.python,
            "-P",
            "-m",
            "dozencloud.supervision.daemon",
            "-c",
            str(self.supervisor.config),
        ]
        command = namespace.enter(self.plan.cloud, daemon)
        if self.systemd and not self.plan.cloud.namespace:
            systemd.start(self.plan.cloud, step, [*command, "--nodaemon"])
        else:
            assignments = [f"{k}={v}" for k, v in clean_environment(self.plan.cloud).items()]
            step.run(["env", "--ignore-environment", *assignments, *command])
        step.until(self.supervisor.alive, seconds=20, every=0.05, what="The supervisor")
        self.state.set("supervisor", self.parent_fingerprint)

    def preload(self, step: Step) -> None:
        """Have it load the libraries that services share."""
        self.supervisor.preload(control=self.plan.controls)

        def loaded() -> bool:
            return bool(self.supervisor.preloaded()["done"])

        step.until(loaded, seconds=120, every=0.1, what="The preloading parent")
        for line in self.supervisor.preloaded()["failed"]:
            step.log.write(f"not preloaded: {line}\n")

    def is_preloaded(self) -> bool:
        if not self.plan.cloud.settings.services.preload:
            return True
        return self.supervisor.alive() and bool(self.supervisor.preloaded()["done"])

    def fingerprint(self, service: Service) -> str:
        files = [(f.path, f.content) for f in service.files]
        files += [(path, path.read_text()) for path in service.reads]
        code = self.code_fingerprint if service.command[0] == self.plan.python else ""
        return digest(
            list(service.command), sorted(variables(service).items()), service.user, files, code
        )

    def unchanged(self, service: Service) -> bool:
        """Running, with the configuration of now, and answering."""
        try:
            process = self.supervisor.processes().get(service.name)
            return (
                process is not None
                # supervisor calls a program "starting" for `startsecs`, ready or not.
                and process.state in ("starting", "running")
                and self.state.get(f"service.{service.name}") == self.fingerprint(service)
                and not self.state.get(_settling(service))
                and service.ready()
                and not service.fault()
            )
        except Exception:  # a supervisor that is not there: nothing is running
            return False

    @cached_property
    def all_unchanged(self) -> bool:
        return all(self.unchanged(service) for service in self.services)

    def task(self, service: Service) -> Task:
        def run(step: Step) -> None:
            self._run(service, step)

        extra: tuple[str, ...] = ("supervisor",)
        if SERVE[-1] in service.command:
            extra += ("preload",)
        if "mariadb" in service.after:
            extra += ("schema",)
        return Task(
            service.name,
            service.title,
            run,
            after=tuple(dict.fromkeys((*service.after, *extra))),
            done=lambda: self.unchanged(service),
        )

    def _run(self, service: Service, step: Step) -> None:
        fingerprint = self.fingerprint(service)
        process = self.supervisor.process(service.name)
        changed = self.state.get(f"service.{service.name}") != fingerprint
        if process.state not in ("stopped", "exited", "fatal") and changed:
            settled = process.state == "running" and not self.state.get(_settling(service))
            if service.reload and settled and service.reload(process.pid):
                self.state.set(f"service.{service.name}", fingerprint)
                return
            step.note("to stop: its configuration has changed")
            self.supervisor.stop(service.name)
        if service.prepare:
            service.prepare(step)
        self.state.set(f"service.{service.name}", fingerprint)
        if service.settle:
            self.state.set(_settling(service), True)
        self.supervisor.start(service.name)
        if service.nice:
            with suppress(ProcessLookupError, PermissionError):  # no CAP_SYS_NICE in a container
                # supervisor makes each program the leader of a process group.
                os.setpriority(
                    os.PRIO_PGRP, self.supervisor.process(service.name).pid, service.nice
                )

        before = self.supervisor.process(service.name).starts

        def ready() -> bool:
            self.supervisor.check(service.name, before)
            return service.ready()

        step.note("to be ready")
        step.until(ready, seconds=service.patience, every=0.1, what=service.title)
        if service.settle:
            service.settle(step)
            self.state.set(_settling(service), False)
