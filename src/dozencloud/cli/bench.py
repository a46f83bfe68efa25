"""`dozen bench`: measures servers from inside."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dozencloud.cli.common import File, Invocation, Name, pass_invocation, say, say_text
from dozencloud.errors import Exit, Problem

if TYPE_CHECKING:
    from dozencloud.guestbench.run import Target

HERE = "this machine"


@click.command()
@click.argument("names", metavar="[SERVER]...", nargs=-1, type=Name())
@click.option("--here", is_flag=True, help="Measure this machine, too, and compare with it.")
@click.option(
    "--baseline",
    type=Name(),
    metavar="SERVER",
    help="Compare with this one (default: this machine with --here, else the first).",
)
@click.option("--user", type=Name(), default="dozen", show_default=True, help="Whom to log in as.")
@click.option(
    "--key",
    type=File(dir_okay=False),
    metavar="FILE",
    help="The private SSH key (default: the cloud's own where it can be read, else what ssh takes "
    "by itself).",
)
@click.option(
    "--output",
    type=File(dir_okay=False),
    metavar="FILE.svg",
    help="Draw a picture, as SVG.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: every sample; no table.")
@pass_invocation
def bench(
    invocation: Invocation,
    names: tuple[str, ...],
    here: bool,
    baseline: str | None,
    user: str,
    key: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure servers from inside, and compare them.

    Logs in at the floating IP, runs a small program for some 5 s, and removes it: processor,
    memory bandwidth and latency, system calls, context switches, performance counters. One machine
    after the other.

    \b
    Examples:
      sudo ./dozen bench first
      sudo ./dozen bench first second --output compared.svg
      sudo ./dozen bench --here first
    """
    if not names and not here:
        raise click.UsageError("Name a server, or say --here.")
    if len(set(names)) < len(names):
        raise click.UsageError("Name each server once.")
    if baseline and baseline not in names:
        raise Problem(
            f"{baseline} is not among the servers to measure.",
            "Name it as a server, too.",
            code=Exit.USAGE,
        )
    if output:
        _need_place(output)
    from dozencloud.guestbench import picture, run, table

    targets = [run.Target(HERE)] if here else []
    targets += _servers(invocation, names, user, key)
    results = []
    for target in targets:
        say(f"Measuring {target.name} ...", err=True)
        results.append(run.measure(target))
    compared = next((r for r in results if r.machine.name == baseline), results[0])
    if as_json:
        data = {"baseline": compared.machine.name, "machines": [r.as_data() for r in results]}
        say_text(f"{json.dumps(data, indent=1)}\n")
    else:
        say_text(table.plain(results, compared))
    if output:
        try:
            output.write_text(picture.svg(results, compared), encoding="utf-8")
        except OSError as error:
            raise _unwritten(output, error) from error
        say(f"Picture: {output}", err=True)


def _need_place(output: Path) -> None:
    """Problem if the picture could not be written: measuring takes its time."""
    try:
        if output.exists():
            output.open("a").close()
        else:
            with tempfile.TemporaryFile(dir=output.parent):
                pass
    except OSError as error:
        raise _unwritten(output, error) from error


def _unwritten(output: Path, error: OSError) -> Problem:
    return Problem(
        f"The picture cannot be written to {output}: {error.strerror}.",
        "Choose another place: --output FILE.svg",
    )


def _servers(
    invocation: Invocation, names: tuple[str, ...], user: str, key: Path | None
) -> list[Target]:
    """All of them are looked up before the first is measured."""
    if not names:
        return []
    from dozencloud.access import client, ssh
    from dozencloud.guestbench import servers

    if key and not key.is_file():
        raise Problem(f"There is no key {key}.", "Name another: --key FILE", code=Exit.USAGE)
    own = ssh.KeyFiles(invocation.cloud)
    trusted = os.access(own.key, os.R_OK)
    login = {"key": key or (own.key if trusted else None)}
    if trusted:
        login["known_hosts"] = own.known_hosts
    sdk = client.connect(invocation.cloud)
    return [servers.target(sdk, name, user, **login) for name in names]
