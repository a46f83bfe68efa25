"""From one release to the next, and back: `dozen upgrade`.

Both are runs of the tasks of `up` in which all services stop first, and start again only when the
databases are those of this release. Servers go on meanwhile.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from dozencloud import RELEASE
from dozencloud.checks import doctor
from dozencloud.cloud import lineage
from dozencloud.cloud.installation import Cloud, load
from dozencloud.cloud.lineage import MADE_BY, Unfinished
from dozencloud.cloud.membership import Membership, account, members, membership
from dozencloud.cloud.plan import Plan
from dozencloud.cloud.state import State
from dozencloud.content import schema
from dozencloud.errors import Exit, Problem
from dozencloud.facts.memory import disk
from dozencloud.facts.run import ask
from dozencloud.lifecycle import backups, commands, lock, preflight, stop
from dozencloud.lifecycle.backups import Backup
from dozencloud.lifecycle.bringup import Bringup
from dozencloud.lifecycle.commands import Outcome
from dozencloud.lifecycle.node import make_plan
from dozencloud.lifecycle.preflight import GIB
from dozencloud.nodes import reports
from dozencloud.nodes.joined.client import Controller
from dozencloud.releases import Standing, numbers, standing
from dozencloud.services import mariadb, neutron
from dozencloud.tasks.graph import RunFailed, Step, Task
from dozencloud.verdicts import Level

Say = Callable[[str], None]


# ---- forward ------------------------------------------------------------------------------


def upgrade(cloud: Cloud, *, say: Say, verbose: bool) -> Outcome:
    """Bring what is on this machine to this release; one that was cut off goes on."""
    with lock.locked(cloud):
        cut = Unfinished.find(State.of(cloud))
        made = cut.source if cut else lineage.made_by(cloud)
        if (cut and (cut.back or made == RELEASE)) or numbers(made) > numbers(RELEASE):
            lineage.need_release(cloud)
        given = membership(cloud)
        forward = made != RELEASE and not given
        if given:
            _controller_first(cloud, given)
        if forward:
            _series_fits(made)
            _nodes_fit(cloud)
            _room(cloud)
            if not cut:
                _nothing_moves(cloud)
        found, verdicts = preflight.examine(cloud)
        doctor.need_fit(verdicts)
        for verdict in preflight.service_verdicts(cloud):
            if verdict.level is not Level.OK:
                say(f"Before the upgrade: {verdict.fact}")
        bringup = Bringup(make_plan(cloud, found), found)
        tasks = bringup.tasks(first_server=False)
        if forward:
            tasks = Forward(bringup, made).tasks(tasks)
        try:
            report = commands.run(cloud, tasks, "upgrade", found, verbose)
        except RunFailed as failure:
            if forward:
                words = ("upgrade", "--back") if Unfinished.find(bringup.state) else ("up",)
                back = f"Or back, with the checkout of {made}: {cloud.command(*words)}"
                failure.mend = f"{failure.mend}\nThen run this again. {back}"
            raise
        _done(bringup.state)
        backups.prune(cloud)
        return Outcome(cloud, report, commands.worked(report, tasks))


def _done(state: State) -> None:
    state.set(MADE_BY, RELEASE)
    state.set(Unfinished.KEY, None)


def _series_fits(made: str) -> None:
    """Problem unless this release can take over databases of the release `made`."""
    if not standing(made).fits:
        raise Problem(
            f"What is here is of release {made}: {RELEASE} takes over from its own series and the"
            " one before.",
            "Upgrade to the releases between first, one series after the other.",
            code=Exit.UNFIT,
        )


def _controller_first(cloud: Cloud, given: Membership) -> None:
    """Problem where this node would be newer than its controller."""
    release = Controller(given.controller, cloud.ca).release(given.node, given.secret)
    if standing(release) in (Standing.BEFORE, Standing.TOO_OLD):
        raise Problem(
            f"The controller has release {release}, and a node is never newer than it.",
            "On the controller first: git pull && sudo ./dozen upgrade",
            code=Exit.UNFIT,
        )


def _nodes_fit(cloud: Cloud) -> None:
    """Problem where a node does not work with a controller of this release."""
    if names := _nodes(cloud, lambda release: standing(release) is Standing.TOO_OLD):
        raise Problem(
            f"{RELEASE} works with nodes of its own series and the one before; older:"
            f" {', '.join(names)}.",
            "Upgrade these first, to the release that the controller has now.",
            code=Exit.UNFIT,
        )


def _nodes(cloud: Cloud, which: Callable[[str], bool]) -> list[str]:
    """Nodes whose last report says such a release, as `name (release)`."""
    said = ((member.name, reports.last(cloud, member.name)) for member in members(cloud))
    return [f"{name} ({r.release})" for name, r in said if r and which(r.release)]


def others(cloud: Cloud) -> list[str]:
    """Nodes that have another release than this one, as `name (release)`."""
    return _nodes(cloud, lambda release: release != RELEASE)


def _room(cloud: Cloud) -> None:
    """Problem where the disk has no room for the databases as text, and compressed."""
    needed, free = GIB + 2 * backups.size(cloud), disk(cloud.lib).free
    if free < needed:
        raise Problem(
            f"{free} MiB are free on the disk for {cloud.lib}; to keep the databases for the way"
            f" back takes up to {needed}.",
            "Make room, then run this again.",
            code=Exit.UNFIT,
        )


def _nothing_moves(cloud: Cloud) -> None:
    """Problem while a server is being made, moved or deleted: its work would be cut off."""
    sql = "SELECT hostname FROM nova.instances WHERE deleted = 0 AND task_state IS NOT NULL"
    client = mariadb.client(Plan.kept(cloud))
    # Where the database does not answer the cloud is stopped.
    busy = ask(*client, "--skip-column-names", f"--execute={sql}", timeout=60).output.split()
    if busy:
        raise Problem(
            f"Nova is at work on {len(busy)} server(s): {', '.join(busy)}.",
            "Wait until it is done. For one that hangs: openstack server set --state error NAME",
            code=Exit.BUSY,
        )


@dataclass(frozen=True)
class Forward:
    """The tasks that an upgrade of the databases adds. source: the release that they are of."""

    bringup: Bringup
    source: str

    def tasks(self, tasks: Iterable[Task]) -> list[Task]:
        state = self.bringup.state
        return [
            *_apart(self.bringup, tasks, "migrations"),
            Task(
                "backup",
                "Databases kept for the way back",
                self._backup,
                after=("mariadb",),
                done=lambda: Unfinished.find(state) is not None,
            ),
            Task("migrations", "Databases of this release", self._migrate, after=("backup",)),
            Task(
                "data-migrations",
                "Data as this release has them",
                partial(schema.migrate_data, self.bringup.plan),
                after=("schema",),
            ),
        ]

    def _backup(self, step: Step) -> None:
        made = backups.make(self.bringup.plan, self.source, step)
        Unfinished(self.source, RELEASE, made.folder.name).keep(self.bringup.state)

    def _migrate(self, step: Step) -> None:
        plan, state = self.bringup.plan, self.bringup.state
        cut = Unfinished.find(state)
        if cut is None:
            raise RuntimeError("no backup was noted")
        if not cut.migrated:
            if cut.attempted:
                # MariaDB cannot undo half a migration, and nobody has used the databases since.
                step.note("the databases as they were before")
                backups.load(plan, backups.find(plan.cloud, cut.backup), step)
            replace(cut, attempted=True, target=RELEASE).keep(state)
        schema.migrate(plan, step)
        replace(cut, attempted=True, target=RELEASE, migrated=True).keep(state)


def _apart(bringup: Bringup, tasks: Iterable[Task], before: str) -> list[Task]:
    """All services stop, and those with databases start only after the task `before`."""

    def restart(task: Task, step: Step) -> None:
        if bringup.running.supervisor.alive():
            step.note("the services to stop; servers go on")
            stop.stop_services(bringup.cloud)
        task.run(step)

    def changed(task: Task) -> Task:
        if task.name == "configuration":
            # What takes long and disturbs nobody comes first.
            return replace(task, after=(*task.after, "packages", "bytecode"))
        if task.name == "supervisor":
            return replace(task, run=partial(restart, task))
        if task.name == "schema":
            return replace(task, after=(*task.after, before))
        return task

    return [changed(task) for task in tasks]


# ---- back ---------------------------------------------------------------------------------


def way_back(cloud: Cloud) -> Backup | None:
    """What `back` will load; None on a node, which has no databases. Problem where there is none.

    cloud: its settings are not looked at; they may be of a newer release.
    """
    cut = Unfinished.find(State.of(cloud))
    made = cut.target if cut and not cut.back else lineage.made_by(cloud)
    if numbers(made) <= numbers(RELEASE) and not (cut and cut.back):
        raise Problem(
            f"What is here is of release {made}: for {RELEASE} there is nothing to go back from.",
            "To go back, use the checkout of the release before.",
            code=Exit.USAGE,
        )
    if membership(cloud):
        return None
    if cut and (noted := backups.find(cloud, cut.backup)).release == RELEASE:
        return noted
    kept = backups.all_kept(cloud)
    fitting = [backup for backup in kept if backup.release == RELEASE]
    if not fitting:
        there = ", ".join(backup.folder.name for backup in kept) or "nothing"
        raise Problem(
            f"No databases of release {RELEASE} were kept; in {backups.place(cloud)} there is:"
            f" {there}.",
            "Use the checkout of a release that is there.",
            code=Exit.UNFIT,
        )
    return fitting[-1]


def back(cloud: Cloud, *, verbose: bool) -> Outcome:
    """Make this machine's data and services those of this older release again."""
    with lock.locked(cloud):
        backup = way_back(cloud)
        if backup:
            _nodes_back_first(cloud)
            _begin(State.of(cloud), lineage.made_by(cloud), backup)
            backups.put_back_settings(cloud, backup, Step(io.StringIO()))
        cloud = load(cloud.root)
        found, verdicts = preflight.examine(cloud)
        doctor.need_fit(verdicts)
        bringup = Bringup(make_plan(cloud, found), found)
        tasks = bringup.tasks(first_server=False)
        if backup:
            tasks = Back(bringup, backup).tasks(tasks)
        report = commands.run(cloud, tasks, "upgrade", found, verbose)
        _done(bringup.state)
        return Outcome(cloud, report, True)


def _begin(state: State, made: str, backup: Backup) -> None:
    """Note that the way back began; one that was cut off keeps what it noted."""
    cut = Unfinished.find(state)
    if cut and cut.back:
        return
    source = cut.target if cut else made
    Unfinished(source, RELEASE, backup.folder.name, back=True).keep(state)


def _nodes_back_first(cloud: Cloud) -> None:
    if names := _nodes(cloud, lambda release: standing(release) is Standing.NEWER):
        raise Problem(
            f"A node is never newer than its controller: {', '.join(names)}.",
            f"On each first, with a checkout of {RELEASE}: sudo ./dozen upgrade --back",
            code=Exit.UNFIT,
        )


@dataclass(frozen=True)
class Back:
    """The tasks that the way back adds."""

    bringup: Bringup
    backup: Backup

    def tasks(self, tasks: Iterable[Task]) -> list[Task]:
        def later(task: Task) -> Task:
            if task.name in ("neutron", "neutron-maintenance"):
                return replace(task, after=(*task.after, "ovn-networks"))
            return task

        return [
            *map(later, _apart(self.bringup, tasks, "databases-back")),
            Task(
                "databases-back",
                "Databases as they were kept",
                self._load,
                after=("mariadb",),
            ),
            Task(
                "ovn-networks",
                "Networks in OVN as in the databases",
                self._networks,
                after=("schema", "ovn-nb", "ovn-sb"),
            ),
            Task("node-accounts", "Accounts of nodes", self._accounts, after=("catalogue",)),
        ]

    def _load(self, step: Step) -> None:
        """Load what was kept; servers made since go on, so their names must not come again."""
        plan, state = self.bringup.plan, self.bringup.state
        cut = Unfinished.find(state)
        if cut is None:
            raise RuntimeError("no way back was noted")
        sql = (
            "SELECT AUTO_INCREMENT FROM information_schema.TABLES"
            " WHERE TABLE_SCHEMA = 'nova' AND TABLE_NAME = 'instances'"
        )
        client = [*mariadb.client(plan), "--skip-column-names"]
        # Empty where an earlier try was killed between dropping and filling.
        now = step.run(client, input=sql).stdout.strip()
        cut = replace(cut, next_server=max(cut.next_server, int(now or 1)))
        cut.keep(state)
        backups.load(plan, self.backup, step)
        # MariaDB does not go below what the rows need.
        step.run(client, input=f"ALTER TABLE nova.instances AUTO_INCREMENT = {cut.next_server}")

    def _networks(self, step: Step) -> None:
        """Neutron's own tool; its server must not run meanwhile."""
        plan = self.bringup.plan
        words = schema.config_files(plan, neutron.TOOL)
        tool = plan.script("neutron-ovn-db-sync-util")
        step.run([tool, *words, "--ovn-neutron_sync_mode", "repair"], timeout=3600)

    def _accounts(self, step: Step) -> None:
        """Who was shut out after the databases were kept has no account again."""
        identity = self.bringup.content.keystone
        theirs = {account(member.name) for member in members(self.bringup.cloud)}
        for user in identity.users(domain_id="default"):
            if user.name.startswith(account("")) and user.name not in theirs:
                step.log.write(f"{user.name} goes\n")
                identity.delete_user(user)


def joined_since(cloud: Cloud, backup: Backup) -> list[str]:
    """Nodes that joined after the backup: what was kept knows nothing of them."""
    return [member.name for member in members(cloud) if member.joined > backup.made]
