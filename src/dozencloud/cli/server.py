"""`dozen server`: what is the matter with a server."""

from __future__ import annotations

from dataclasses import replace

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
    from dozencloud.access import client
    from dozencloud.checks import explain as explaining

    invocation = ctx.ensure_object(Invocation)
    sdk = invocation.connection("server", "explain", name)
    server = client.find_server(sdk, name)
    told = explaining.explain(sdk, server)
    if not client.named() and server.compute_host:
        from dozencloud.nodes import listing  # takes its time to load

        row = listing.find(invocation.cloud, server.compute_host)
        if found := listing.of_its_node(row, server.status):
            told = replace(told, finding=found)
    if as_json:
        echo_json(told.to_json())
    else:
        for line in explaining.lines(told):
            say(line)
    if told.finding:
        ctx.exit(Exit.FAILED)
