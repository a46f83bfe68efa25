"""`dozen restart`, `dozen stop`, `dozen start`."""

from __future__ import annotations

import click

from dozencloud.cli.common import Invocation, Word, pass_invocation, say, waited
from dozencloud.cli.logs import complete


@click.command()
@click.argument(
    "services",
    type=Word(),
    nargs=-1,
    required=True,
    metavar="SERVICE...",
    shell_complete=complete,
)
@click.option("--verbose", "-v", is_flag=True, help="Show starts and notes, too.")
@pass_invocation
def restart(invocation: Invocation, services: tuple[str, ...], verbose: bool) -> None:
    """Restart services and wait until they are ready.

    Servers keep running, whichever service it is.

    \b
    Examples:
      sudo ./dozen restart nova-compute
      sudo ./dozen restart neutron ovn-agent
    """
    cloud = invocation.as_root("restart", *services)
    from dozencloud.lifecycle import commands

    commands.restart(cloud, services, verbose=verbose)
    say(f"Restarted {', '.join(services)} in {waited():.1f} s.")


@click.command()
@pass_invocation
def stop(invocation: Invocation) -> None:
    """Shut down all servers and services.

    `dozen start` brings them back.

    \b
    Example:
      sudo ./dozen stop
    """
    cloud = invocation.as_root("stop")
    from dozencloud.lifecycle import stop
    from dozencloud.lifecycle.lock import locked

    with locked(cloud):
        ran = stop.stop(cloud, lambda text: say(f"  {text}"))
    if ran:
        say(f"Stopped in {waited():.1f} s. Run: {cloud.command('start')}")
    else:
        say("The cloud was stopped already.")


@click.command()
@click.option("--verbose", "-v", is_flag=True, help="Show starts and notes of every task, too.")
@pass_invocation
def start(invocation: Invocation, verbose: bool) -> None:
    """Start a stopped cloud, with its servers.

    Needs no network and no packages. Returns when the servers that ran before run again.

    \b
    Example:
      sudo ./dozen start
    """
    cloud = invocation.as_root("start")
    from dozencloud.lifecycle import commands

    outcome = commands.start(cloud, verbose=verbose)
    took = f"({waited():.1f} s)"
    if outcome.changed:
        say(f"The cloud runs. {took}")
    else:
        say(f"Nothing to change: the cloud runs. {took}")
