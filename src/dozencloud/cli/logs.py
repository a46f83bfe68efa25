"""`dozen logs`."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from dozencloud.cli.common import Invocation, pass_invocation, say, say_text
from dozencloud.errors import Exit, Problem

UP = "up"
POLL = 0.2  # s between two looks at a log that is followed


def names(folder: Path) -> list[str]:
    """Services that have a log."""
    return sorted(path.stem for path in folder.glob("*.log"))


def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of services, for the shell."""
    from dozencloud.cloud import load

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
@click.argument("service", shell_complete=complete)
@click.argument("task", required=False)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what is added.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines.")
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
    if service == UP:
        _last_run(cloud.log / UP, task, lines)
        return
    if task:
        raise click.UsageError(f"Got an unexpected extra argument ({task}).")
    path = cloud.log / f"{service}.log"
    if service not in names(cloud.log):
        raise _unknown("service", service, [*names(cloud.log), UP])
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


def _unknown(what: str, name: str, known: list[str]) -> Problem:
    return Problem(
        f"There is no {what} called {name}.", f"Known: {', '.join(known)}.", code=Exit.USAGE
    )
