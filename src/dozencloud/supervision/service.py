"""What a service is: a long-running process as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Plan, Role
from dozencloud.host.confinement import ORDINARY, Confinement, Unconfined
from dozencloud.host.distributions.needs import Need
from dozencloud.tasks.graph import Step

GROUP = "dozen"
"""Group of all service users: it may use the sockets, never read another one's files."""


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
class Lane:
    """A second socket of an API, for requests that must not hold up those of the first.

    threads: at most. wrapper: `module:function`, put around the application there.
    """

    name: str
    threads: int
    wrapper: str


@dataclass(frozen=True)
class Rate:
    """What the gateway lets one address ask: so many requests a second, so many more at once."""

    per_second: int
    burst: int


@dataclass(frozen=True)
class Api:
    """What of a service the gateway passes on, and what the catalogue says of it.

    path: first part of the path, at the gateway and on loopback: `identity`.
    body: how large the body of a request may be, in nginx's words.
    kind, name: in Keystone's catalogue, type and name of the service; empty: it is not there.
    version: what follows the path in the addresses of the catalogue: `/v3`.
    lane: its second socket.
    rate: of requests from outside; None: no limit of its own.
    internal: the other services reach it, too, on loopback.
    """

    path: str
    body: str
    kind: str = ""
    name: str = ""
    version: str = ""
    lane: Lane | None = None
    rate: Rate | None = None
    internal: bool = True


@dataclass(frozen=True)
class Tool:
    """The databases of a service, and upstream's program for them.

    program: its name.
    service: name of the account that alone may use them, over MariaDB's Unix socket, and of the
        folder below the cloud's settings.
    files: of the configuration, in that folder.
    sync: database -> words that bring it to its release.
    first: words, each for one call, that a new database of that name needs right after that.
    online: words for changes of data, which may run beside the services.
    """

    program: str
    service: str
    files: tuple[str, ...]
    sync: Mapping[str, tuple[str, ...]]
    first: Callable[[Plan, str], Sequence[Sequence[str]]] = lambda plan, name: ()
    online: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Account:
    """A Keystone user of a service.

    roles: in the project of the services.   system: roles of the whole cloud.
    uses: what for, in words for people.
    """

    name: str
    roles: tuple[str, ...]
    uses: str
    system: tuple[str, ...] = ()


@dataclass(frozen=True)
class Definition:
    """A service as far as it is the same on every machine, and all that others derive from it.

    name, title: for commands, logs and people.
    describe: its process on a machine.
    roles: a machine with one of these has it.
    wanted: whether such a machine has it after all.
    api: what the gateway passes to it; None if nothing.
    tool: its databases, and upstream's program for them; None if it has none.
    accounts: its users in Keystone.
    rules: who may what by its API, where that is not what upstream's policies say.
    needs: what it takes from packages of the system (host/distributions/ has their names).
    root: why it runs as root; empty where it does not.
    foundation: others stand on it, so it stops after them.
    """

    name: str
    title: str
    describe: Callable[[Plan], Service]
    roles: frozenset[Role]
    wanted: Callable[[Plan], bool] = lambda plan: True
    api: Api | None = None
    tool: Tool | None = None
    accounts: tuple[Account, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    root: str = ""
    foundation: bool = False

    def here(self, plan: Plan) -> bool:
        """Whether the machine of that plan has it."""
        return bool(self.roles & plan.roles) and self.wanted(plan)


@dataclass(frozen=True)
class Service:
    """One long-running process on a machine.

    command: argument list. A command of `python_main`/`python_wsgi` is forked from the
        preloaded parent instead of executed.
    after: services that must be ready, and tasks of `up` that must be done, before this one is
        started; those that this machine does not have are left out.
    prepare: brings what the process needs into being; idempotent, runs before every start.
    ready: true as soon as the service does its work; cheap.
    settle: does what has to be done once it is ready; idempotent.
    fault: what is not (any more) as `settle` left it, though the service runs: a sentence without
        its dot; empty if nothing. Cheap.
    reads: files of others' making that it reads when it starts.
    reload: makes the running process (its pid) use changed files, without an end to what it is
        doing; false if it could not. Without, the service is restarted.
    listens: where it is reached, for people; that of its API needs no word.
    confinement: what it and all that it starts cannot do.
    patience: s until it must be ready; a small board needs its time.
    """

    definition: Definition
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

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def title(self) -> str:
        return self.definition.title

    @property
    def reached(self) -> str:
        """Where, for people; empty where it only makes connections."""
        api = self.definition.api
        return self.listens or (f"/{api.path}" if api else "")


# -P: not the folder that `dozen` was called in; it may be anybody's.
SERVE = ("-P", "-m", "dozencloud.supervision.serve")


def python_main(plan: Plan, target: str, *arguments: str) -> list[str]:
    return [plan.python, *SERVE, "main", target, *arguments]


def python_wsgi(plan: Plan, service: Definition, target: str) -> list[str]:
    """The WSGI application `target` on the sockets of the service, below the path of its API."""
    cloud, api = plan.cloud, service.api
    lane = api.lane if api else None
    beside = [str(api_socket(cloud, lane.name)), str(lane.threads), lane.wrapper] if lane else []
    threads = str(cloud.settings.services.threads)
    return [
        *(plan.python, *SERVE, "wsgi", target),
        *(str(api_socket(cloud, service.name)), f"/{api.path}" if api else "", threads, *beside),
    ]


def api_socket(cloud: Cloud, name: str) -> Path:
    return cloud.run / "api" / name / "api.sock"


def api_folders(cloud: Cloud, service: Definition, user: str = "root") -> tuple[Folder, ...]:
    """What its sockets are in: no other service could put its own there.

    2: they become the group's.
    """
    lane = service.api.lane if service.api else None
    names = (service.name, lane.name) if lane else (service.name,)
    return tuple(Folder(api_socket(cloud, n).parent, user, GROUP, 0o2750) for n in names)
