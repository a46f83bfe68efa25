"""`dozen destroy`."""

from __future__ import annotations

import sys

import click

from dozencloud.cli.common import Invocation, pass_invocation, say
from dozencloud.errors import Exit, Problem


@click.command()
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option(
    "--purge-packages", is_flag=True, help="Remove the packages that `dozen up` installed, too."
)
@pass_invocation
def destroy(invocation: Invocation, yes: bool, purge_packages: bool) -> None:
    """Remove every trace of the cloud.

    Servers, images, databases, networks, settings, logs: all of it. Also removes what is left of
    a cloud that came up or went away only in part. Packages of the system stay, unless
    --purge-packages is given.

    \b
    Examples:
      sudo ./dozen destroy
      sudo ./dozen destroy --yes --purge-packages
    """
    from dozencloud import facts, lifecycle
    from dozencloud.preflight import locked, markers, need_root
    from dozencloud.status import losses

    cloud = invocation.cloud
    need_root(cloud, "destroy")
    signs = markers(cloud)
    if facts.find_traces(signs).empty:
        say("There is nothing to remove.")
        return
    with locked(cloud):
        if not yes:
            _ask(losses(cloud), cloud.command("destroy", "--yes"))
        removed = lifecycle.destroy(cloud, lambda text: say(f"  {text}"), purge=purge_packages)
    left = facts.find_traces(signs)
    if not left.empty:
        raise Problem(
            "Something of the cloud is still there.",
            "Remove it by hand, or run the same command again.",
            detail="\n".join(left.lines()),
        )
    say(f"Removed: {', '.join(removed)}." if removed else "Removed.")


def _ask(losses: str, without_asking: str) -> None:
    if not sys.stdin.isatty():
        raise Problem("Nobody is there to be asked.", f"Run: {without_asking}", code=Exit.USAGE)
    say(f"This removes {losses}. There is no way back.")
    if not click.confirm("Remove the cloud?"):
        raise Problem("Nothing was removed.")
