"""What a service is: a long-running process as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Plan
from dozencloud.host.confinement import ORDINARY, Confinement, Unconfined
from dozencloud.tasks.graph import Step

GROUP = "dozen"
"""Group of all service users: it may use the sockets, never read another one's files."""


class Role(StrEnum):
    """What a node does for the cloud."""

    CONTROL = "control"
    COMPUTE = "compute"


@dataclass(frozen=True)
class File:
    """A rendered file; `owner` is a user, the group is root's unless the mode gives it rights."""

    path: Path
    content: str
    owner: str = "root"
    mode: int = 0o600


@dataclass(frozen=True)
class Folder:
    path: Path
    owner: str = "root"
    group: str = "root"
    mode: int = 0o700


@dataclass(frozen=True)
class Service:
    """One long-running process.

    command: argument list. A command of `python_main`/`python_wsgi` is forked from the
        preloaded parent instead of executed.
    after: services that must be ready before this one is started.
    prepare: brings what the process needs into being; idempotent, runs before every start.
    ready: true as soon as the service does its work; cheap.
    settle: does what has to be done once it is ready; idempotent.
    fault: what is not (any more) as `settle` left it, though the service runs: a sentence without
        its dot; empty if nothing. Cheap.
    reads: files of others' making that it reads when it starts.
    reload: makes the running process (its pid) use changed files, without an end to what it is
        doing; false if it could not. Without, the service is restarted.
    listens: where it is reached, for people.
    confinement: what it and all that it starts cannot do.
    patience: s until it must be ready; a small board needs its time.
    """

    name: str
    title: str
    role: Role
    command: Sequence[str]
    ready: Callable[[], bool]
    after: tuple[str, ...] = ()
    user: str = "root"
    environment: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Folder, ...] = ()
    files: tuple[File, ...] = ()
    reads: tuple[Path, ...] = ()
    reload: Callable[[int], bool] | None = None
    prepare: Callable[[Step], None] | None = None
    settle: Callable[[Step], None] | None = None
    fault: Callable[[], str] = lambda: ""
    listens: str = ""
    umask: int = 0o007
    nice: int = 0
    stop_seconds: int = 10
    patience: int = 180
    confinement: Confinement | Unconfined = ORDINARY


# ---- the command of a Python service ------------------------------------------------------

# -P: not the folder that `dozen` was called in; it may be anybody's.
SERVE = ("-P", "-m", "dozencloud.supervision.serve")


def python_main(plan: Plan, target: str, *arguments: str) -> list[str]:
    return [plan.python, *SERVE, "main", target, *arguments]


@dataclass(frozen=True)
class Lane:
    """A second socket of an API, for requests that must not hold up those of the first.

    threads: at most. wrapper: `module:function`, put around the application there.
    """

    name: str
    threads: int
    wrapper: str


def python_wsgi(
    plan: Plan, name: str, target: str, prefix: str, lane: Lane | None = None
) -> list[str]:
    cloud = plan.cloud
    beside = [str(api_socket(cloud, lane.name)), str(lane.threads), lane.wrapper] if lane else []
    return [
        *(plan.python, *SERVE, "wsgi", target),
        *(str(api_socket(cloud, name)), prefix, str(cloud.settings.services.threads), *beside),
    ]


def api_socket(cloud: Cloud, name: str) -> Path:
    return cloud.run / "api" / name / "api.sock"


def api_folder(cloud: Cloud, name: str, user: str = "root") -> Folder:
    """What the socket is in: no other service could put its own there (2: so becomes the group)."""
    return Folder(api_socket(cloud, name).parent, user, GROUP, 0o2750)
