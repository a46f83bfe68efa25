"""`dozen debug`: gdb on a server."""

from __future__ import annotations

import os

import click

from dozencloud.cli.common import Invocation, Name, pass_invocation, say
from dozencloud.compute.debugging.gdbrequest import MOST_MINUTES


@click.command()
@click.argument("server", type=Name())
@click.option(
    "--stop-at-start",
    is_flag=True,
    help="Start the server, anew if it runs, and stop it before its first instruction.",
)
@click.option(
    "--minutes",
    type=click.IntRange(1, MOST_MINUTES),
    default=30,
    show_default=True,
    metavar="N",
    help="How long gdb may connect, in minutes. Then gdb is cut off and the server runs on.",
)
@click.option("--close", is_flag=True, help="Close it now.")
@click.option("--pipe", is_flag=True, help="Carry gdb's bytes; gdb itself runs this.")
@pass_invocation
def debug(
    invocation: Invocation,
    server: str,
    stop_at_start: bool,
    minutes: int,
    close: bool,
    pipe: bool,
) -> None:
    """Open a server for gdb, and print the command that connects it.

    Only members of the server's project and administrators can. gdb reaches the server through
    the cloud's public port, encrypted; no other port opens. It goes by OS_CLOUD and clouds.yaml,
    as the OpenStack client does; with sudo and without OS_CLOUD, as administrator.

    \b
    Examples:
      dozen debug first
      dozen debug first --stop-at-start --minutes 90
      dozen debug first --close
    """
    if sum((stop_at_start, close, pipe)) > 1:
        raise click.UsageError("--stop-at-start, --close and --pipe exclude each other.")
    from dozencloud.access import client, debugger

    sdk = invocation.connection("debug", server)
    found = client.find_server(sdk, server)
    if pipe:
        debugger.pipe(sdk, found)
        return
    if close:
        debugger.close_stub(sdk, found)
        say(f"Closed. The server {found.name} runs on.")
        return
    if stop_at_start:
        debugger.open_at_start(sdk, found, minutes)
        where = "waits before its first instruction; `continue` lets it run"
    else:
        debugger.open_stub(sdk, found, minutes)
        where = "runs until gdb connects"
    sudo = os.geteuid() == 0 and "SUDO_UID" in os.environ
    program = debugger.program(os.environ, invocation.root)
    say(f"The server {found.name} is open for gdb until {debugger.until(minutes)}.")
    say(f"It {where}; when gdb leaves, it runs on.", "")
    say(f"  {debugger.gdb_command(found.id, program, sudo=sudo)}", "")
    say("On a host with KVM, set breakpoints with `hbreak`: `break` needs memory that is")
    say("mapped already, which a kernel's is not at its start.")
