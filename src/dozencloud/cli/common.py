"""What the commands share: the cloud that is meant, and how failures look."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dozencloud.errors import Exit, Problem

if TYPE_CHECKING:
    from dozencloud.cloud import Cloud


@dataclass
class Invocation:
    """The options that stand before the command."""

    root: Path | None = None
    debug: bool = False

    @cached_property
    def cloud(self) -> Cloud:
        from dozencloud.cloud import load

        return load(self.root)

    def existing(self) -> Cloud:
        """The cloud; Problem if there is none."""
        from dozencloud.preflight import need_cloud

        need_cloud(self.cloud)
        return self.cloud

    def as_root(self, *words: str) -> Cloud:
        """The cloud, which exists; Problem if there is none or we are not root."""
        from dozencloud.preflight import need_root

        need_root(self.cloud, *words)
        return self.existing()


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def show(problem: Problem) -> None:
    """Cause, the lines that led to it, the next step; on standard error."""
    click.echo(click.style("Error: ", fg="red", bold=True) + problem.what, err=True)
    for line in problem.detail.splitlines():
        click.echo(click.style(f"    {line}", dim=True), err=True)
    if problem.mend:
        click.echo(problem.mend, err=True)


def echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


class Root(click.Group):
    """The group of all commands; turns every failure into a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Problem as problem:
            self._fail(ctx, problem)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(Exit.INTERRUPTED)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            self._fail(ctx, unforeseen(error))

    def _fail(self, ctx: click.Context, problem: Problem) -> NoReturn:
        invocation = ctx.find_object(Invocation)
        if invocation and invocation.debug:
            traceback.print_exception(problem.__cause__ or problem, file=sys.stderr)
        show(problem)
        ctx.exit(problem.code)


def unforeseen(error: Exception) -> Problem:
    """A sentence for what no part of the program expected."""
    if isinstance(error, PermissionError) and os.geteuid():
        problem = Problem(f"{error.filename} cannot be opened.", "Use sudo.")
    else:
        text = " ".join(str(error).split())
        problem = Problem(
            f"An error that nobody foresaw: {type(error).__name__}: {text}.",
            "The same command with --debug (dozen --debug ...) shows where.",
        )
    problem.__cause__ = error
    return problem
