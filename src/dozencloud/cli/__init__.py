"""The `dozen` command: arguments in, words out; the work is elsewhere."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import click

from dozencloud import RELEASE
from dozencloud.cli.access import console, env, openstack, ssh
from dozencloud.cli.bench import bench
from dozencloud.cli.certs import certs
from dozencloud.cli.common import File, Invocation, Root, say, show
from dozencloud.cli.config import completion, config
from dozencloud.cli.debug import debug
from dozencloud.cli.destroy import destroy
from dozencloud.cli.doctor import doctor
from dozencloud.cli.image import image
from dozencloud.cli.join import join, leave
from dozencloud.cli.logs import logs
from dozencloud.cli.node import node
from dozencloud.cli.power import restart, start, stop
from dozencloud.cli.server import server
from dozencloud.cli.status import status
from dozencloud.cli.timings import timings
from dozencloud.cli.up import up
from dozencloud.cli.upgrade import upgrade
from dozencloud.errors import Exit, Problem

EPILOG = "\b\nExit status:\n" + "".join(f"  {each:<4} {each.meaning}\n" for each in Exit)


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    say(f"dozen {RELEASE}")
    ctx.exit()


class Ordered(Root):
    """Help lists the commands in the order in which a person meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Ordered, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--root",
    type=File(file_okay=False),
    envvar="DOZEN_ROOT",
    metavar="DIR",
    help="A cloud of its own under DIR, beside the machine's (also: DOZEN_ROOT).",
)
@click.option("--debug", is_flag=True, help="Show where in the program an error arose.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(ctx: click.Context, root: Path | None, debug: bool) -> None:
    """OpenStack on ARM, on this machine.

    \b
    sudo ./dozen up                       bring the cloud up
    sudo ./dozen openstack server list    use it
    sudo ./dozen destroy                  remove it again
    """
    ctx.obj = Invocation(root, debug)


for command in (
    *(up, status, logs, restart, stop, start, upgrade, destroy),
    *(doctor, env, openstack, image, server, ssh, console, debug, bench),
    *(node, join, leave, certs),
    *(timings, config, completion),
):
    cli.add_command(command)


def main() -> None:
    """Entry point."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
    try:
        try:
            cli(prog_name="dozen")
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        # Python would flush again at its end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno != errno.EPIPE:
            show(Problem(f"What `dozen` says cannot be written: {error.strerror}."))
        sys.exit(Exit.FAILED)
