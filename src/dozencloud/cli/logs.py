"""`dozen logs`."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from dozencloud.cli.common import Invocation, Word, pass_invocation, say, say_text
from dozencloud.errors import Exit, Problem

if TYPE_CHECKING:
    from dozencloud.cloud.installation import Cloud

UP = "up"
POLL = 0.2  # s between two looks at a log that is followed
LINES = 50
MOST_LINES = 1_000_000  # more than a log has before the supervisor begins a new one


def names(folder: Path) -> list[str]:
    """Services that have a log."""
    return sorted(path.stem for path in folder.glob("*.log"))


def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of services, for the shell."""
    from dozencloud.cloud.installation import load

    root = (ctx.find_root().params or {}).get("root")
    found = [*names(load(root).log), UP]
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def follow(path: Path) -> Iterator[str]:
    """Text that is added to the file from now on, also after the supervisor has rotated it."""
    file = path.open(errors="replace")
    file.seek(0, os.SEEK_END)
    while True:
        if text := file.read():
            yield text
            continue
        time.sleep(POLL)
        try:
            now = path.stat()
        except FileNotFoundError:  # between the two renames of a rotation
            continue
        if now.st_ino != os.fstat(file.fileno()).st_ino:
            yield file.read()
            file.close()
            file = path.open(errors="replace")
        elif now.st_size < file.tell():
            file.seek(0)


@click.command()
@click.argument("service", type=Word(), shell_complete=complete)
@click.argument("task", type=Word(), required=False)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what is added.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, MOST_LINES),
    default=LINES,
    show_default=True,
    metavar="N",
    help="How many lines.",
)
@pass_invocation
def logs(
    invocation: Invocation, service: str, task: str | None, following: bool, lines: int
) -> None:
    """Show the log of a service.

    `dozen logs up` lists the tasks of the last run of `dozen up`, and shows their logs.

    \b
    Examples:
      sudo ./dozen logs nova-compute
      sudo ./dozen logs keystone -f
      sudo ./dozen logs up                 lists the tasks of the last run
      sudo ./dozen logs up nova-compute    the log of one of them
    """
    cloud = invocation.existing()
    if cloud.log.exists() and not os.access(cloud.log, os.R_OK | os.X_OK):
        from dozencloud.cloud.guards import need_root

        asked = [service, *([task] if task else []), *(["--follow"] if following else [])]
        need_root(cloud, "logs", *asked, *(["--lines", str(lines)] if lines != LINES else []))
    if service == UP:
        _last_run(cloud.log / UP, task, lines)
        return
    if task:
        raise click.UsageError(f"Got an unexpected extra argument ({task}).")
    path = cloud.log / f"{service}.log"
    if service not in names(cloud.log):
        raise _without_log(cloud, service)
    _tail(path, lines)
    if following:
        for text in follow(path):
            say_text(text)


def _tail(path: Path, lines: int) -> None:
    with path.open(errors="replace") as file:
        for line in deque(file, lines):
            say_text(line)


def _last_run(folder: Path, task: str | None, lines: int) -> None:
    runs = sorted(path for path in folder.glob("*") if path.is_dir())
    if not runs:
        raise Problem("There was no run of `dozen up` yet.")
    if task is None:
        say(f"{runs[-1]}:")
        for path in sorted(runs[-1].glob("*.log")):
            say(f"  {path.stem:24} {path.stat().st_size:>9,} bytes")
        return
    if task not in names(runs[-1]):
        raise _unknown("task in the last run", task, names(runs[-1]))
    _tail(runs[-1] / f"{task}.log", lines)


def _without_log(cloud: Cloud, service: str) -> Problem:
    from dozencloud.cloud.plan import Plan
    from dozencloud.services import services

    known = {each.name for each in services(Plan.kept(cloud))}
    if service in known:
        return Problem(
            f"{service} was never started, so it has no log.", f"Run: {cloud.command('up')}"
        )
    return _unknown("service", service, [*sorted({*known, *names(cloud.log)}), UP])


def _unknown(what: str, name: str, known: list[str]) -> Problem:
    return Problem(
        f"There is no {what} called {name}.", f"Known: {', '.join(known)}.", code=Exit.USAGE
    )
