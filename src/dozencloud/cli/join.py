"""`dozen join` and `dozen leave`."""

from __future__ import annotations

import click

from dozencloud.cli.common import Invocation, Word, pass_invocation, say, waited, warn
from dozencloud.cli.destroy import clear_machine


@click.command()
@click.argument("controller", type=Word(), metavar="https://CONTROLLER")
@click.option(
    "--token", type=Word(), required=True, help="From `dozen node token` on the controller."
)
@click.option("--name", type=Word(), help="Name of this node (default: the host name).")
@click.option(
    "--address",
    type=Word(),
    help="Address by which the controller and other nodes reach this machine (default: the one "
    "that the controller sees).",
)
@click.option("--verbose", "-v", is_flag=True, help="Show starts and notes of every task, too.")
@pass_invocation
def join(
    invocation: Invocation,
    controller: str,
    token: str,
    name: str | None,
    address: str | None,
    verbose: bool,
) -> None:
    """Make this machine a compute node of a cloud.

    Looks at this machine and says what servers it will run, makes sure that it speaks with the
    controller that made the token, installs what is missing, and waits until servers can be placed
    here. Run it again after anything went wrong: it continues.

    \b
    Example (the line that `dozen node token` printed):
      sudo ./dozen join https://192.168.1.10 --token dz1...
    """
    from dozencloud.cloud.guards import need_root
    from dozencloud.nodes import tokens
    from dozencloud.nodes.joined.client import checked_url

    cloud = invocation.cloud
    chosen = (("--name", name), ("--address", address))
    options = (word for option, value in chosen if value for word in (option, value))
    need_root(cloud, "join", controller, "--token", token, *options)
    url, parsed = checked_url(controller), tokens.Token.parse(token)
    from dozencloud.lifecycle import commands

    outcome, given = commands.join(
        cloud, url, parsed, name=name or "", address=address or "", say=say, verbose=verbose
    )
    if outcome.changed:
        say(f"This machine is the node {given.node}. It took {waited():.1f} s.")
    else:
        say(f"Nothing to change: the node {given.node} runs. ({waited():.1f} s)")
    warn(outcome.warnings)
    say("On the controller: sudo ./dozen node list")


@click.command()
@click.option(
    "--yes",
    "-y",
    is_flag=True,
    help="Leave also where the controller cannot be asked and disks of servers are here: they are "
    "lost.",
)
@pass_invocation
def leave(invocation: Invocation, yes: bool) -> None:
    """Take this machine out of its cloud.

    Removes every trace of DozenCloud here, as `dozen destroy` does for a whole cloud.

    Move the servers away first, on the controller: `dozen node remove NAME`. After it the
    controller does not know this machine any more, and leaving takes nothing from anybody.

    \b
    Example:
      sudo ./dozen leave
    """
    from dozencloud.cloud.membership import membership
    from dozencloud.errors import Exit, Problem
    from dozencloud.lifecycle import destroy
    from dozencloud.lifecycle.lock import locked
    from dozencloud.nodes.joined import leaving

    cloud = invocation.as_root("leave", verb="leave")
    given = membership(cloud)
    if given is None:
        raise Problem(
            "This machine is no node: it has the cloud itself.",
            f"To remove the cloud: {cloud.command('destroy')}",
            code=Exit.USAGE,
        )
    with locked(cloud):
        untold = leaving.tell(cloud, given)
        here = leaving.disks(cloud)
        if untold and here and not yes:
            raise Problem(
                f"Disks of {len(here)} server(s) are here, and {untold[0].lower()}{untold[1:]}",
                f"To lose them: {cloud.command('leave', '--yes')}",
                detail="\n".join(here),
            )
        destroy.destroy(cloud, lambda text: say(f"  {text}"))
    say("This machine is no node any more.")
    if untold:
        say(f"{untold} On the controller, run: dozen node remove {given.node}")
    clear_machine(cloud)
