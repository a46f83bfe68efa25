"""`dozen status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dozencloud.cli.common import Invocation, add_row, echo_json, say
from dozencloud.errors import Exit

if TYPE_CHECKING:
    from rich.table import Table

    from dozencloud.checks.status import Status

COLOURS = {"running": "green", "starting": "yellow", "stopping": "yellow", "stopped": "dim"}


def duration(seconds: int) -> str:
    """The two largest units: 3d 4h, 2h 5m, 1m 12s."""
    for size, name, below, size_below in (
        (86400, "d", "h", 3600),
        (3600, "h", "m", 60),
        (60, "m", "s", 1),
    ):
        if seconds >= size:
            return f"{seconds // size}{name} {seconds % size // size_below}{below}"
    return f"{seconds}s"


def table(status: Status) -> Table:
    from rich.table import Table
    from rich.text import Text

    result = Table(box=None, pad_edge=False, show_footer=True)
    total = status.control_plane_mib + status.servers_mib
    for heading, footer, justify in (
        ("SERVICE", "total", "left"),
        ("STATE", "", "left"),
        ("PID", "", "right"),
        ("MEMORY", f"{total:.0f} MiB", "right"),
        ("UPTIME", "", "right"),
        ("RESTARTS", "", "right"),
        ("LISTENS", "", "left"),
    ):
        # A pipe or a narrow window must not tear the columns apart.
        result.add_column(heading, footer, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in status.services:
        colour = COLOURS.get(row.state, "red")
        add_row(
            result,
            row.name,
            Text(row.state, style=colour),
            str(row.pid or ""),
            f"{row.memory_mib:.0f} MiB" if row.pid else "",
            duration(row.uptime_s) if row.pid else "",
            str(row.restarts or ""),
            row.listens,
        )
    supervisor = status.supervisor
    add_row(
        result,
        "supervisor",
        Text(supervisor.state, style=COLOURS.get(supervisor.state, "red")),
        str(supervisor.pid or ""),
        f"{supervisor.memory_mib:.0f} MiB" if supervisor.pid else "",
        duration(supervisor.uptime_s) if supervisor.pid else "",
        "",
        "unix" if supervisor.pid else "",
    )
    result.add_section()
    result.add_row("control plane", "", "", f"{status.control_plane_mib:.0f} MiB")
    count = f"{status.servers} running"
    result.add_row("servers", count, "", f"{status.servers_mib:.0f} MiB")
    return result


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show what runs: state, memory, restarts, port.

    Memory is each service's share (PSS) with its helpers, so that the sum is what the cloud costs.
    Also asks every router, as a person would, whether it answers. Exit status: 0 if all is well,
    6 if not or if the disk is full, 4 if there is no cloud.

    \b
    Examples:
      sudo ./dozen status
      sudo ./dozen status --json
    """
    invocation = ctx.ensure_object(Invocation)
    cloud = invocation.existing()
    invocation.as_root("status")
    from dozencloud.checks.status import collect

    now = collect(cloud)
    if as_json:
        echo_json(now.to_json())
    else:
        _show(now)
        if now.supervisor.state == "stopped":
            what = "node" if now.node else "cloud"
            say("", f"The {what} is stopped. Run: {cloud.command('start')}")
        if now.disk_full:
            say(
                "",
                f"Only {now.disk_free} MiB are free on the disk for {cloud.lib}. Make room;"
                " services that failed for that are started again within a minute.",
            )
        for fault, mend in now.faults.items():
            say("", f"{fault} Run: {cloud.command(*mend)}")
        for row in now.services:
            if row.failing:
                say("", f"{row.name} keeps dying ({row.state}). Its last lines:")
                for line in row.last_lines.splitlines():
                    say(f"    {line}", dim=True)
                say(f"More: {cloud.command('logs', row.name)}")
    if not now.all_running or now.disk_full or now.faults:
        ctx.exit(Exit.DEGRADED)


def _show(now: Status) -> None:
    from rich.console import Console

    if now.node:
        say(f"Node {now.node} of the cloud at {now.address}", "")
    else:
        say(f"Cloud {now.cloud}, {now.address}", "")
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table(now))
        return
    # Wide enough for every column, and without the blanks that fill a terminal's line.
    wide = Console(highlight=False, width=160)
    with wide.capture() as capture:
        wide.print(table(now))
    for line in capture.get().splitlines():
        say(line.rstrip())
