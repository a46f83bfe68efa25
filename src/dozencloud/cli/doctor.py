"""`dozen doctor`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from dozencloud import legible
from dozencloud.cli import common
from dozencloud.cli.common import Invocation, echo_json, say_text
from dozencloud.errors import Exit

if TYPE_CHECKING:
    from dozencloud.verdicts import Verdict

COLOURS = {"ok": "green", "note": "cyan", "warn": "yellow", "bad": "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: verdicts and all facts.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is wrong here, and how to mend it.

    Shows what this machine is and can do; changes nothing. Before `dozen up` it tells whether that
    will work; after it, also how the services are. Exit status: 3 if anything is bad.

    \b
    Examples:
      sudo ./dozen doctor
      sudo ./dozen doctor --json
    """
    from dozencloud.lifecycle import preflight

    cloud = ctx.ensure_object(Invocation).cloud
    missing = common.MISSING
    if missing and cloud.exists and not os.geteuid():
        ctx.exit(common.NEEDED)  # its services are judged with their libraries
    found, verdicts = preflight.examine(
        cloud, base=missing.base if missing else None, index=missing.index if missing else ""
    )
    if cloud.exists and found.system.root:
        verdicts += preflight.service_verdicts(cloud)
    if as_json:
        echo_json({"verdicts": [v.to_json() for v in verdicts], "facts": found.to_json()})
    else:
        _show(verdicts)
    if any(verdict.level.value == "bad" for verdict in verdicts):
        ctx.exit(Exit.UNFIT)


def _show(verdicts: list[Verdict]) -> None:
    from dozencloud.checks.doctor import plain

    if common.MISSING:
        say_text(f"{plain(verdicts)}\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        say_text(f"{plain(verdicts)}\n")
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for verdict in verdicts:
        text = Text(legible.text(verdict.fact))
        if verdict.mend:
            text.append(f"\n→ {legible.text(verdict.mend)}", style="bold")
        level = Text(verdict.level.value, style=COLOURS[verdict.level.value])
        table.add_row(level, verdict.name, text)
    console.print(table)
