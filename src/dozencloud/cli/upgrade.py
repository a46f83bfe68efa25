"""`dozen upgrade`."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from dozencloud import RELEASE
from dozencloud.cli.common import Invocation, pass_invocation, say, waited
from dozencloud.errors import Exit, Problem

if TYPE_CHECKING:
    from dozencloud.cloud.installation import Cloud
    from dozencloud.lifecycle.backups import Backup


@click.command()
@click.option(
    "--back", is_flag=True, help="Go back to this older release, with the databases that were kept."
)
@click.option("--yes", "-y", is_flag=True, help="With --back: do not ask.")
@click.option("--verbose", "-v", is_flag=True, help="Show starts and notes of every task, too.")
@pass_invocation
def upgrade(invocation: Invocation, back: bool, yes: bool, verbose: bool) -> None:
    """Bring this machine to the release of this checkout.

    The controller first, then one node after the other. Keeps the databases, stops the services,
    migrates the databases, starts the services. Servers go on running. Run it again after anything
    went wrong: it continues.

    --back, from a checkout of the release before, makes the databases what they were when the
    upgrade began: what was done since is lost.

    \b
    Examples:
      git pull && sudo ./dozen upgrade
      git checkout v0.1.0 && sudo ./dozen upgrade --back
    """
    from dozencloud.cloud.guards import need_cloud, need_root
    from dozencloud.cloud.installation import at
    from dozencloud.lifecycle import upgrade as work

    # Settings of a newer release must not stand in the way back.
    cloud = at(invocation.root) if back else invocation.cloud
    need_root(cloud, "upgrade", *(["--back"] if back else []))
    need_cloud(cloud, "upgrade")
    if back:
        backup = work.way_back(cloud)
        if backup and not yes:
            _ask(backup, cloud)
        outcome = work.back(cloud, verbose=verbose)
        say(f"This is release {RELEASE} again. It took {waited():.1f} s.")
        if backup and (names := work.joined_since(outcome.cloud, backup)):
            say(
                f"Joined since, so unknown to the databases: {', '.join(names)}."
                " Remove each here (dozen node remove), run `dozen leave` on it, and join anew."
            )
        return
    outcome = work.upgrade(cloud, say=say, verbose=verbose)
    took = f"({waited():.1f} s)"
    if outcome.changed:
        say(f"This is release {RELEASE}; servers went on. {took}")
    else:
        say(f"Nothing to change: this is release {RELEASE}. {took}")
    if names := work.others(cloud):
        say("", "Nodes of another release. On one after the other, run:")
        say("git pull && sudo ./dozen upgrade")
        for name in names:
            say(f"  {name}")


def _ask(backup: Backup, cloud: Cloud) -> None:
    without_asking = cloud.command("upgrade", "--back", "--yes")
    if not sys.stdin.isatty():
        raise Problem("Nobody is there to be asked.", f"Run: {without_asking}", code=Exit.USAGE)
    moment = datetime.fromtimestamp(backup.made).astimezone().strftime("%Y-%m-%d %H:%M")
    say(f"The databases become those of {moment}. What was done since is lost.")
    if not click.confirm(f"Go back to release {RELEASE}?"):
        raise Problem("Nothing was changed.")
