"""Of which release the data of this machine are; what is begun with them by another one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from dozencloud import RELEASE
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import membership_file
from dozencloud.cloud.state import State
from dozencloud.errors import Exit, Problem
from dozencloud.releases import known, numbers

MADE_BY = "release"
"""In the cloud's state: the release that its data are of."""
FIRST = "0.1.0"
"""The release of data that say none."""


@dataclass(frozen=True)
class Unfinished:
    """An upgrade, or the way back, that has not reached its end; kept in the cloud's state.

    source, target: releases.   backup: its name, in `backups.place`.
    back: it is the way back.
    attempted: migrations have begun.
    migrated: they are done: the target's services may have used the databases.
    next_server: on the way back, the first number that no server of the source has.
    """

    source: str
    target: str
    backup: str
    back: bool = False
    attempted: bool = False
    migrated: bool = False
    next_server: int = 0

    KEY: ClassVar[str] = "upgrade"

    def keep(self, state: State) -> None:
        state.set(self.KEY, asdict(self))

    @classmethod
    def find(cls, state: State) -> Unfinished | None:
        found = state.get(cls.KEY)
        return known(cls, found) if found else None


def made_by(cloud: Cloud) -> str:
    """The release that the data of this machine are of; this one's where there are none."""
    there = (cloud.lib / "mariadb").exists() or membership_file(cloud).exists()
    kept = State.of(cloud).get(MADE_BY)
    return str(kept) if kept else FIRST if there else RELEASE


def need_release(cloud: Cloud) -> None:
    """Problem unless the data of this machine are of this release."""
    if cut := Unfinished.find(State.of(cloud)):
        back = cloud.command("upgrade", "--back")
        if cut.back:
            mend = f"Go on, with the checkout of {cut.target}: {back}"
        else:
            mend = (
                f"Go on, with the checkout of {cut.target}: {cloud.command('upgrade')}"
                f" -- or back, with that of {cut.source}: {back}"
            )
        what = "The way back" if cut.back else "An upgrade"
        what += f" from release {cut.source} to {cut.target} was cut off."
        raise Problem(what, mend, code=Exit.UNFIT)
    made = made_by(cloud)
    if made == RELEASE:
        return
    if numbers(made) > numbers(RELEASE):
        back = cloud.command("upgrade", "--back")
        mend = f"Use the checkout of that release, or go back to what was kept: {back}"
    else:
        mend = f"Run: {cloud.command('upgrade')}"
    what = f"What is here is of release {made}, and this is DozenCloud {RELEASE}."
    raise Problem(what, mend, code=Exit.UNFIT)
