"""`dozen destroy`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dozencloud.cli.common import Invocation, pass_invocation, say
from dozencloud.errors import Exit, Problem

if TYPE_CHECKING:
    from dozencloud.cloud.installation import Cloud


@click.command()
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option(
    "--purge-packages",
    is_flag=True,
    help="Remove also the packages that `dozen up` installed, and what only they needed.",
)
@click.option("--environment", is_flag=True, help="Remove also the Python environment.")
@pass_invocation
def destroy(invocation: Invocation, yes: bool, purge_packages: bool, environment: bool) -> None:
    """Remove every trace of the cloud.

    Servers, images, databases, networks, settings, logs: all of it. Also removes what is left of
    a cloud that came up or went away only in part. Packages of the system and the Python
    environment stay, unless --purge-packages and --environment are given; it says what is left.
    While another cloud of this machine needs these, they stay in any case.

    \b
    Examples:
      sudo ./dozen destroy
      sudo ./dozen destroy --yes --purge-packages --environment
    """
    from dozencloud import facts
    from dozencloud.checks.status import losses
    from dozencloud.cloud.guards import need_root
    from dozencloud.lifecycle import destroy
    from dozencloud.lifecycle.lock import locked
    from dozencloud.lifecycle.preflight import markers

    cloud = invocation.cloud
    need_root(cloud, "destroy")
    signs = markers(cloud)
    if facts.find_traces(signs).empty:
        if not (purge_packages or environment):
            say("There is nothing to remove.")
    else:
        with locked(cloud):
            if not yes:
                _ask(losses(cloud), cloud.command("destroy", "--yes"))
            removed = destroy.destroy(cloud, lambda text: say(f"  {text}"))
        left = facts.find_traces(signs)
        if not left.empty:
            raise Problem(
                "Something of the cloud is still there.",
                "Remove it by hand, or run the same command again.",
                detail="\n".join(left.lines()),
            )
        say(f"Removed: {', '.join(removed)}." if removed else "Removed.")
    clear_machine(cloud, purge_packages=purge_packages, environment=environment)


def clear_machine(cloud: Cloud, *, purge_packages: bool = False, environment: bool = False) -> None:
    """What clouds of this machine share: removed if that is wanted, else named."""
    from dozencloud.host import environments, machine, packages

    others, own = machine.others(cloud), Path(sys.prefix)
    names = machine.packages()
    if others and (purge_packages or environment):
        say(f"Another cloud needs its packages and environment, which stay: {', '.join(others)}.")
    if others:
        return
    if names and purge_packages:
        gone = packages.purge(lambda text: say(f"  {text}"))
        say(f"Removed: {', '.join(gone)}." if gone else "Its packages are gone already.")
    elif names:
        say(f"Left: {len(names)} packages that were installed for it. To remove them:")
        say(f"  {cloud.command('destroy', '--purge-packages')}")
    if not (size := environments.size(own)):
        return
    users = environments.users(own)
    if not environment:
        say(f"Left: the Python environment in {own.parent}, {size} MiB. To remove it:")
        say(f"  {cloud.command('destroy', '--environment')}")
    elif users:
        say(f"The Python environment stays, since clouds run in it: {', '.join(users)}.")
    else:
        say(f"Removed: {own.parent}, {size} MiB.")
        environments.remove(own)


def _ask(losses: str, without_asking: str) -> None:
    if not sys.stdin.isatty():
        raise Problem("Nobody is there to be asked.", f"Run: {without_asking}", code=Exit.USAGE)
    say(f"This removes {losses}. There is no way back.")
    if not click.confirm("Remove the cloud?"):
        raise Problem("Nothing was removed.")
