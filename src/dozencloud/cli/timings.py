"""`dozen timings`."""

from __future__ import annotations

from pathlib import Path

import click

from dozencloud.cli.common import File, Invocation, pass_invocation, say, say_text
from dozencloud.errors import Problem


@click.command()
@click.option(
    "--svg",
    type=File(dir_okay=False),
    metavar="FILE",
    help="Where the picture goes (default: timings.svg in the cloud's folder).",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: the report; no picture.")
@pass_invocation
def timings(invocation: Invocation, svg: Path | None, as_json: bool) -> None:
    """Show where the time of `dozen up` went.

    Prints a table and draws a picture.

    The last run that did any work counts. The critical path is marked: only a faster task on it
    makes the whole faster.

    \b
    Examples:
      sudo ./dozen timings
      sudo ./dozen timings --svg /tmp/up.svg
    """
    from dozencloud.private import write_private
    from dozencloud.tasks import picture
    from dozencloud.tasks import timings as reports

    cloud = invocation.existing()
    source = cloud.lib / "timings.json"
    if not source.exists():
        raise Problem("There is no timing report yet.", f"Run: {cloud.command('up')}")
    report = reports.RunReport.from_json(source.read_text())
    if as_json:
        say_text(report.to_json())
        return
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(reports.table(report))
    else:
        say_text(reports.plain(report))
    target = svg or cloud.lib / "timings.svg"
    try:
        if svg:
            svg.write_text(picture.svg(report), encoding="utf-8")
        else:
            write_private(target, picture.svg(report))
    except OSError as error:
        raise Problem(
            f"The picture cannot be written to {target}: {error.strerror}.",
            "Choose another place: dozen timings --svg FILE",
        ) from error
    say("", f"Picture: {target}")
