"""What the commands share: the cloud that is meant, and how failures look."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dozencloud import legible
from dozencloud.errors import Exit, Problem, foreseen, unforeseen

if TYPE_CHECKING:
    from rich.table import Table

    from dozencloud.cloud.installation import Cloud
    from dozencloud.verdicts import Verdict


@dataclass
class Invocation:
    """The options that stand before the command."""

    root: Path | None = None
    debug: bool = False

    @cached_property
    def cloud(self) -> Cloud:
        from dozencloud.cloud.installation import load

        return load(self.root)

    def existing(self, verb: str = "") -> Cloud:
        """The cloud; Problem if there is none. verb: as for `preflight.need_cloud`."""
        from dozencloud.cloud.guards import need_cloud

        need_cloud(self.cloud, verb)
        return self.cloud

    def as_root(self, *words: str, verb: str = "") -> Cloud:
        """The cloud, which exists; Problem if there is none or we are not root."""
        from dozencloud.cloud.guards import need_root

        need_root(self.cloud, *words)
        return self.existing(verb)

    def as_admin(self, *words: str, verb: str = "") -> Cloud:
        """The cloud, which runs here; Problem otherwise, or if we are not root."""
        from dozencloud.supervision.client import need_running

        cloud = self.as_root(*words, verb=verb)
        need_running(cloud, *words)
        return cloud

    def connection(self, *words: str) -> Any:
        """The SDK's connection as whom the environment names, else as administrator.

        words: the command that the person typed.
        """
        from dozencloud.access import client

        if not client.named():
            if os.geteuid():
                raise Problem(
                    "Nobody says who asks: neither OS_CLOUD nor OS_AUTH_URL is set.",
                    "With an account of the cloud set OS_CLOUD, and see clouds.yaml. On the "
                    f"cloud's own machine, as its administrator: {self.cloud.command(*words)}",
                    code=Exit.UNFIT,
                )
            self.as_admin(*words)
        return client.connect(self.cloud)


@dataclass(frozen=True)
class Missing:
    """The Python environment is not there yet (bootstrap/early.py).

    base: where it is going to be.   index: URL of the packages that it is made from.
    """

    base: Path
    index: str


MISSING: Missing | None = None
NEEDED = 64
"""Exit status that the launcher takes for: make the environment and ask again."""


UPTIME = Path("/proc/uptime")


def uptime() -> float:
    """Seconds by a clock that nobody sets, and that the launcher can read, too (proc(5))."""
    return float(UPTIME.read_text().split()[0])


BEGAN = float(os.environ.pop("DOZEN_BEGAN", 0)) or uptime()
"""When the person pressed Enter: the launcher says it."""


def waited() -> float:
    """Seconds since then."""
    return max(0.0, uptime() - BEGAN)


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def say(*lines: object, err: bool = False, dim: bool = False) -> None:
    """Show lines. Names in them, which others have chosen, can neither end one nor order more."""
    for line in lines or ("",):
        shown = legible.line(line)
        click.echo(click.style(shown, dim=True) if dim else shown, err=err)


def say_text(text: str, *, err: bool = False) -> None:
    """Show what has its own line ends: tables, settings, logs."""
    click.echo(legible.text(text), err=err, nl=False)


def add_row(table: Table, *cells: object) -> None:
    """A row of which nothing is taken for markup, or for orders to the terminal."""
    from rich.text import Text

    table.add_row(*(c if isinstance(c, Text) else Text(legible.line(c)) for c in cells))


def show(problem: Problem) -> None:
    """Cause, the lines that led to it, the next step; on standard error."""
    error = click.style("Error: ", fg="red", bold=True)
    click.echo(error + legible.line(problem.what), err=True)
    for line in problem.detail.splitlines():
        say(f"    {line}", err=True, dim=True)
    if problem.mend:
        say_text(f"{problem.mend}\n", err=True)


def echo_json(value: Any) -> None:
    """JSON has escapes of its own."""
    click.echo(json.dumps(value, indent=2))


def warn(verdicts: Iterable[Verdict]) -> None:
    """Say what is wrong with this machine though the command has done its work."""
    for verdict in verdicts:
        say("", f"Warning: {verdict.fact}", *filter(None, [verdict.mend]))


def leaves(command: click.Command) -> Iterator[click.Command]:
    """The command, or all below the group, that are no groups."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from leaves(below)
    else:
        yield command


class Word(click.ParamType[str]):
    """Any text but none: an empty word is a variable of a script that was never set."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.strip():
            self.fail("it is empty.", param, ctx)
        return str(value)


class File(click.Path):
    """A file or folder; an empty word would be the folder where one is."""

    def __init__(self, **more: Any) -> None:
        super().__init__(path_type=Path, **more)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(Word().convert(os.fspath(value), param, ctx), param, ctx)


class Name(Word):
    """What somebody called a server or a node: one line of text."""

    name = "name"
    LONGEST = 255  # characters, as Nova has it

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        super().convert(value, param, ctx)
        shown = legible.line(value)
        if len(value) > self.LONGEST:
            self.fail(f"it has {len(value)} characters, and names have at most 255.", param, ctx)
        if shown != value:
            self.fail(f"{shown} has characters that no name has.", param, ctx)
        if {".", ".."} & set(value.split("/")):
            self.fail(f"{shown} is a path.", param, ctx)
        return str(value)


class Root(click.Group):
    """The group of all commands; turns every failure into a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        # What it says of itself stands in no sentence of ours.
        logging.getLogger("keystoneauth").addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except Problem as problem:
            self._fail(ctx, problem)
        except KeyboardInterrupt:
            say("Interrupted.", err=True)
            ctx.exit(Exit.INTERRUPTED)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            self._fail(ctx, foreseen(error) or refused(ctx, error) or unforeseen(error, SHOW_WHERE))

    def _fail(self, ctx: click.Context, problem: Problem) -> NoReturn:
        invocation = ctx.find_object(Invocation)
        if invocation and invocation.debug:
            say_text("".join(traceback.format_exception(problem.__cause__ or problem)), err=True)
        show(problem)
        ctx.exit(problem.code)


SHOW_WHERE = "The same command with --debug (dozen --debug ...) shows where."


def refused(ctx: click.Context, error: Exception) -> Problem | None:
    """A sentence for what the cloud's APIs refused; None for a fault of ours."""
    if "openstack" not in sys.modules:
        return None
    from dozencloud.access import client

    cloud = None if client.named() else ctx.ensure_object(Invocation).cloud
    problem = client.refusal(error, cloud)
    if problem:
        problem.__cause__ = error
    return problem
