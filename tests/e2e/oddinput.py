"""Every command of `dozen`, with what nobody should type: read from the commands themselves."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from dozencloud.cli import cli
from dozencloud.errors import Exit

ODD = (
    "",
    " ",
    "\U0001f980",  # four bytes in UTF-8
    "Schüler 01",
    "日本",
    "\udcff\udcfe",  # bytes that are no UTF-8, as Python hands them on (PEP 383)
    "a\nb\t\x1b[31m",
    "%s{0}$(id)`id`;'\"\\",
    "(.*)",
    "a" * 300,
    "a" * 70_000,
    "a/b",
    "../../nowhere/x",
    "/",
    "/dev/null",
    "/dev/zero/x",
    "/nowhere/at/all",
    "http://",
    "https://[::1",
    "https://127.0.0.1:1/x.img",
    "-1",
    "0",
    "9" * 30,
    "00000000-0000-0000-0000-000000000000",
)


@dataclass(frozen=True)
class Case:
    """One command line, below `dozen --root ROOT`. what: of it is odd."""

    words: tuple[str, ...]
    what: str


def leaves(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands that are no groups."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from leaves(below, (*path, name))
    else:
        yield path, command


def cases(path: tuple[str, ...], command: click.Command) -> Iterator[Case]:
    """Each argument and each option with a value is odd once, beside ordinary others."""
    takers = [
        p for p in command.params if not (isinstance(p, click.Option) and (p.is_flag or p.count))
    ]
    yield Case(path, "no words at all")
    for flag in (p for p in command.params if isinstance(p, click.Option) and p.is_flag):
        yield Case((*path, flag.opts[0]), flag.opts[0])
    for odd in takers:
        for value in ODD:
            options: list[str] = []
            arguments: list[str] = []
            for each in takers:
                if each is not odd and not each.required:
                    continue
                word = value if each is odd else ordinary(each)
                if isinstance(each, click.Option):
                    options += [f"{each.opts[0]}={word}"]
                else:
                    arguments.append(word)
            yield Case((*path, *options, "--", *arguments), f"{odd.name} {value[:20]!a}")


def ordinary(parameter: click.Parameter) -> str:
    if isinstance(parameter.type, click.Choice):
        return str(parameter.type.choices[0])
    return "x"


def run(root: Path, words: Sequence[str]) -> Result:
    """In a folder that goes: some words name files, which are then written."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        return CliRunner().invoke(cli, ["--root", str(root), *words])


def complaint(result: Result) -> str:
    """What is wrong with how the command ended; empty if nothing is."""
    if result.exception and not isinstance(result.exception, SystemExit):
        return f"it raised {result.exception!r}"
    if "nobody foresaw" in result.output:
        return result.output
    if result.exit_code not in [*Exit]:
        return f"exit status {result.exit_code}"
    if "Traceback" in result.output:
        return result.output
    return ""


def forbid_exec(monkeypatch: Any) -> None:
    """A test cannot become another program; what would is fine."""

    def execute(program: str, words: Sequence[str], *environment: object) -> None:
        for word in (program, *words):
            os.fsencode(word)
            if "\0" in word:
                raise ValueError("embedded null byte")
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execute)
    monkeypatch.setattr(os, "execvp", execute)
