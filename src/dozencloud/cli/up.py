"""`dozen up`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dozencloud.cli.common import Invocation, pass_invocation, say, waited, warn

if TYPE_CHECKING:
    from dozencloud.lifecycle.commands import Outcome


@click.command()
@click.option(
    "--first-server/--no-first-server",
    default=True,
    help="Boot the server `first` and log in to it (default), or leave that out.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show starts and notes of every task, too.")
@pass_invocation
def up(invocation: Invocation, first_server: bool, verbose: bool) -> None:
    """Bring the cloud up, or apply changed settings.

    Installs what is missing, starts every service, registers flavors, networks, a key and an ARM
    image, and boots a first server. Run it again at any time: it continues where it was cut off,
    applies what changed in cloud.toml, and changes nothing else.

    \b
    Examples:
      sudo ./dozen up
      sudo ./dozen up --no-first-server
      sudo ./dozen --root /srv/second up
    """
    from dozencloud.cloud.guards import need_root
    from dozencloud.lifecycle import commands

    cloud = invocation.cloud
    need_root(cloud, "up")
    outcome = commands.up(cloud, first_server=first_server, verbose=verbose)
    lines = [f"Nothing to change: the cloud runs. ({waited():.1f} s)"]
    for line in _summary(outcome) if outcome.changed else lines:
        say(line)
    warn(outcome.warnings)


def _summary(outcome: Outcome) -> list[str]:
    cloud = outcome.cloud
    lines = ["", f"The cloud runs. It took {waited():.1f} s."]
    if outcome.login:
        lines += ["", "Log in to the server `first` (as root):", outcome.login]
    return [
        *lines,
        "",
        "Use the cloud:",
        f"  {cloud.command('openstack', 'server', 'list')}",
        "or, in a shell of your own:",
        f'  eval "$({cloud.command("env")})"',
        "  openstack server list",
        "",
        f"What runs:  {cloud.command('status')}",
        f"Settings:   {cloud.file}",
        f"Logs:       {cloud.log}",
    ]
