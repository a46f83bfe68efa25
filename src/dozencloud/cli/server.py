"""`dozen server`: what is the matter with a server."""

from __future__ import annotations

import click

from dozencloud.cli.common import Invocation, Name, echo_json, say
from dozencloud.errors import Exit


@click.group()
def server() -> None:
    """Ask what is the matter with servers.

    \b
    Example:
      sudo ./dozen server explain first
    """


@server.command()
@click.argument("name", type=Name())
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def explain(ctx: click.Context, name: str, as_json: bool) -> None:
    """Tell what a server is, how it is, and what is wrong with it.

    NAME: its name or id. Asks as the user whom OS_CLOUD or OS_AUTH_URL name, else as administrator.
    Exit status: 0 if nothing is known to be wrong, 1 if something is.

    \b
    Examples:
      sudo ./dozen server explain first
      OS_CLOUD=mine ./dozen server explain web --json
    """
    from dozencloud import client
    from dozencloud import explain as explaining

    sdk = ctx.ensure_object(Invocation).connection("server", "explain", name)
    told = explaining.explain(sdk, client.find_server(sdk, name))
    if as_json:
        echo_json(told.to_json())
    else:
        for line in explaining.lines(told):
            say(line)
    if told.finding:
        ctx.exit(Exit.FAILED)
