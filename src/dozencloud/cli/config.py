"""`dozen config` and `dozen completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dozencloud.cli.common import Invocation, pass_invocation, say, say_text


@click.command()
@pass_invocation
def config(invocation: Invocation) -> None:
    """Print the settings in force, and their file.

    The form is that of cloud.toml; the first line says where it is. Settings that have their
    default are comments. Change one in the file, then run `dozen up`: it applies just that.

    \b
    Example:
      ./dozen config
    """
    from dozencloud.cloud.settings import template

    cloud = invocation.cloud
    there = "" if cloud.exists else " (written by the first `dozen up`)"
    say(f"# {cloud.file}{there}")
    say_text(template(cloud.settings))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script for completion in a shell.

    \b
    Examples:
      source <(./dozen completion bash)
      ./dozen completion fish | source
    """
    found = get_completion_class(shell)
    if found is None:  # only if click drops a shell
        raise click.UsageError(f"{shell} is not supported.")
    root = ctx.find_root().command
    say_text(found(root, {}, "dozen", "_DOZEN_COMPLETE").source() + "\n")
