"""`dozen node`: the machines of the cloud."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from dozencloud.cli.common import Invocation, Name, Word, add_row, echo_json, pass_invocation, say
from dozencloud.errors import Exit, Problem


@click.group()
def node() -> None:
    """The machines of the cloud, and tokens to join by.

    \b
    Examples:
      sudo ./dozen node token
      sudo ./dozen node list
      sudo ./dozen node drain pi-3
    """


@node.command()
@click.option(
    "--ttl",
    type=Word(),
    default="1h",
    show_default=True,
    help="How long it is good: 30m, 2h, 7d; at most 30 days.",
)
@click.option(
    "--role",
    type=click.Choice(["compute"]),
    default="compute",
    help="What the node will do: compute.",
)
@click.option("--name", type=Word(), help="Only a node of this name may use it.")
@pass_invocation
def token(invocation: Invocation, ttl: str, role: str, name: str | None) -> None:
    """Make a token, and print the line to run on the machine that is to join.

    A token is good for one machine, once. It holds the fingerprint of this cloud's certificate, so
    the machine knows that it speaks with this cloud and nobody else.

    \b
    Example:
      sudo ./dozen node token --ttl 2h --name pi-3
    """
    cloud = invocation.as_admin("node", "token")
    from dozencloud.cloud.plan import Role
    from dozencloud.lifecycle import commands
    from dozencloud.nodes import tokens
    from dozencloud.nodes.controller import enrol

    seconds = tokens.seconds(ttl)
    if name and not enrol.NAME.fullmatch(name):
        raise Problem(
            f"{name} is no name for a node.",
            "One has up to 42 of a-z, 0-9 and -: dozen node token --name NAME",
            code=Exit.USAGE,
        )
    made = tokens.make(cloud, lifetime=seconds, role=Role(role), name=name or "")
    commands.take_nodes(cloud)
    say("Run this on the machine that is to join:", err=True)
    say(f"sudo ./dozen join {cloud.public_url} --token {made}")
    say(f"It is good for one machine, for {ttl}.", err=True)


@node.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--revoke", type=Word(), metavar="ID", help="Make this token worthless.")
@pass_invocation
def tokens(invocation: Invocation, as_json: bool, revoke: str | None) -> None:
    """List the tokens that have not ended, or revoke one."""
    cloud = invocation.as_root("node", "tokens")
    from dozencloud.cloud.guards import need_controller
    from dozencloud.nodes import tokens as kept

    need_controller(cloud, "node", "tokens")
    if revoke:
        kept.revoke(cloud, revoke)
        say(f"The token {revoke} is worthless now.")
        return
    found = kept.all_kept(cloud)
    if as_json:
        echo_json(
            [
                {"id": t.id, "ends": t.ends, "role": t.role, "name": t.name, "used_by": t.node}
                for t in found
            ]
        )
        return
    if not found:
        say(f"There is no token. To make one: {cloud.command('node', 'token')}")
    for one in found:
        ends = datetime.fromtimestamp(one.ends).astimezone().strftime("%Y-%m-%d %H:%M")
        use = f"used by {one.node}" if one.node else "unused"
        only = f", only for {one.name}" if one.name else ""
        say(f"{one.id}  until {ends}  {use}{only}")


@node.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_invocation
def list_nodes(invocation: Invocation, as_json: bool) -> None:
    """List the machines of the cloud: what each is, what it runs, when it was last seen."""
    cloud = invocation.as_admin("node", "list")
    from rich.console import Console
    from rich.table import Table

    from dozencloud.nodes import listing

    rows = listing.rows(cloud)
    if as_json:
        echo_json([row.to_json() for row in rows])
        return
    table = Table(box=None, pad_edge=False)
    columns = ["Name", "State", "Machine", "CPUs", "KVM", "Memory", "Servers", "Last seen"]
    releases = {row.report.release for row in rows if row.report}
    if len(releases) > 1:
        columns.append("Release")
    for column in columns:
        table.add_column(column, justify="right" if column in ("Memory", "Servers") else "left")
    for row in rows:
        report = row.report
        add_row(
            table,
            row.name,
            row.condition,
            *(
                (
                    report.architecture,
                    listing.cpus(report),
                    listing.kvm(report),
                    f"{report.memory / 1024:.1f} GiB",
                )
                if report
                else ("?", "?", "?", "?")
            ),
            str(len(row.servers)),
            "now" if row.controls else listing.ago(row.seen),
            *([report.release if report else "?"] if "Release" in columns else []),
        )
    Console(soft_wrap=True).print(table)
    for trouble in (trouble for row in rows for trouble in row.troubles):
        say("", trouble)


@node.command()
@click.argument("name", type=Name())
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_invocation
def show(invocation: Invocation, name: str, as_json: bool) -> None:
    """Show all that is known of one machine."""
    cloud = invocation.as_admin("node", "show", name)
    from dozencloud.nodes import listing

    row = listing.find(cloud, name)
    if as_json:
        echo_json(row.to_json())
        return
    lines = {
        "name": row.name,
        "state": str(row.condition),
        "role": row.role,
        "address": row.address,
        "servers": ", ".join(row.servers) or "none",
    }
    if report := row.report:
        heat = report.temperature
        lines |= {
            "board": report.board or "unknown",
            "architecture": report.architecture,
            "CPUs": listing.cpus(report),
            "KVM for ARM": listing.kvm(report),
            "memory": f"{report.memory} MiB, {report.available} MiB available",
            "disk": f"{report.disk >> 10} GiB, {report.free >> 10} GiB free",
            "temperature": "no sensor" if heat is None else f"{heat:.0f} degrees Celsius",
            "tunnels": report.encapsulation,
            "release": report.release,
        }
    if row.member:
        joined = datetime.fromtimestamp(row.member.joined).astimezone()
        lines["joined"] = joined.strftime("%Y-%m-%d %H:%M")
        lines["last seen"] = listing.ago(row.seen)
    for key, value in lines.items():
        say(f"{key + ':':15}{value}")
    for trouble in row.troubles:
        say("", trouble)


@node.command()
@click.argument("name", type=Name())
@click.option("-y", "--yes", is_flag=True, help="Do not ask where it is the controller.")
@pass_invocation
def drain(invocation: Invocation, name: str, yes: bool) -> None:
    """Move all servers off a node, and let it take no new ones.

    A server that moves is shut down for as long as its disk needs to Glance and back. It keeps its
    addresses and its data, and no quota of its project counts. Says first what will become of each
    server. Where one cannot move, nothing is done at all. Cut off, the same again goes on.

    \b
    Example:
      sudo ./dozen node drain pi-3
    """
    cloud = invocation.as_admin("node", "drain", name)
    from dozencloud.nodes import listing, moving

    row = listing.find(cloud, name)
    moves = moving.plan(cloud, row)
    for move in moves:
        say(f"  {move}")
    if row.controls and not yes:
        _ask(name, len(moves), cloud.command("node", "drain", "--yes", name))
    moved = moving.drain(cloud, row, moves, lambda text: say(f"  {text}"))
    say(f"{moved} server(s) moved; {name} takes no new ones.")
    say(f"To undo that: {cloud.command('node', 'undrain', name)}")


def _ask(name: str, servers: int, without_asking: str) -> None:
    if not sys.stdin.isatty():
        raise Problem(
            f"{name} is the controller itself, and nobody is there to be asked.",
            f"Run: {without_asking}",
            code=Exit.USAGE,
        )
    say(f"{name} is the controller itself. {servers} server(s) leave it, and it takes no new ones.")
    if not click.confirm("Drain the controller?"):
        raise Problem("Nothing was done.")


@node.command()
@click.argument("name", type=Name())
@pass_invocation
def undrain(invocation: Invocation, name: str) -> None:
    """Let a drained node take servers again."""
    cloud = invocation.as_admin("node", "undrain", name)
    from dozencloud.nodes import listing, moving

    moving.undrain(cloud, listing.find(cloud, name))
    say(f"{name} takes servers again.")


@node.command()
@click.argument("name", type=Name())
@click.option("--from-image", is_flag=True, help="Yes: what the servers had written is lost.")
@pass_invocation
def evacuate(invocation: Invocation, name: str, from_image: bool) -> None:
    """Rebuild the servers of a lost node on other nodes, from their images.

    Their disks were on the lost node, so they start anew: same name, same addresses, no data.

    \b
    Example:
      sudo ./dozen node evacuate pi-3 --from-image
    """
    cloud = invocation.as_admin("node", "evacuate", name)
    from dozencloud.nodes import listing, moving

    row = listing.find(cloud, name)
    if row.servers and not from_image:
        raise Problem(
            f"The disks of {', '.join(row.servers)} are on {name}: rebuilt elsewhere, these servers"
            " lose what they had written.",
            f"If that is wanted: {cloud.command('node', 'evacuate', name, '--from-image')}",
            code=Exit.USAGE,
        )
    moved = moving.evacuate(cloud, row, lambda text: say(f"  {text}"))
    say(f"{moved} server(s) rebuilt elsewhere.")


@node.command()
@click.argument("name", type=Name())
@click.option(
    "--revoke",
    is_flag=True,
    help="For a stolen board: shut it out before anything else, also with servers on it.",
)
@pass_invocation
def remove(invocation: Invocation, name: str, revoke: bool) -> None:
    """Take a node out of the cloud; its servers are moved to others first.

    Its accounts and its certificate are worth nothing from then on; the other nodes get new
    certificates by themselves. On the machine itself, `dozen leave` removes what DozenCloud has
    there. --revoke shuts a stolen board out before anything else, also with servers on it.

    \b
    Example:
      sudo ./dozen node remove pi-3
    """
    cloud = invocation.as_admin("node", "remove", name)
    from dozencloud.nodes import listing, moving
    from dozencloud.nodes.controller import departing

    row = listing.find(cloud, name)
    if row.controls:
        raise Problem(
            f"{name} is the controller: without it there is no cloud.",
            f"To remove the cloud: {cloud.command('destroy')}",
            code=Exit.USAGE,
        )
    if revoke:
        departing.shut_out(cloud, name)
        say(f"  {name} is shut out: its accounts and its certificate are worthless")
    if revoke or row.condition is listing.Condition.DOWN:
        if row.servers:
            raise Problem(
                f"{len(row.servers)} server(s) are still recorded on {name}:"
                f" {', '.join(row.servers)}.",
                f"Rebuild or delete them, then remove it again: dozen node evacuate {name}",
            )
        for move in moving.left_over(cloud, name):
            say(f"  {moving.shelved_still(move)}")
    elif row.servers or moving.left_over(cloud, name):
        moves = moving.plan(cloud, row)
        moving.drain(cloud, row, moves, lambda text: say(f"  {text}"))
    if revoke:
        departing.forget(cloud, name)
    else:
        departing.let_go(cloud, name)
    say(f"{name} is no node of this cloud any more.")
