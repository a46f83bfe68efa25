"""Options of the commands, and exit statuses."""

from __future__ import annotations

from collections.abc import Iterator

import click

from dozencloud.cli import cli
from dozencloud.errors import Exit
from made.markdown import code, codes, table


def with_options() -> list[str]:
    """Names of the commands that have any."""
    return [name for name, command in cli.commands.items() if any(_all(command))]


def first_options_table() -> str:
    """Those that stand before the command."""
    context = click.Context(cli, info_name="dozen", help_option_names=["-h", "--help"])
    found = [each for each in cli.get_params(context) if isinstance(each, click.Option)]
    return table(("option", "meaning"), [(_spelled(each), _meaning(each)) for each in found])


def options_table(name: str) -> str:
    """Of one command; or of all below a group, with whose they are."""
    command = cli.commands[name]
    of: dict[tuple[str, str], list[str]] = {}
    for owner, option in _all(command):
        of.setdefault((_spelled(option), _meaning(option)), []).append(owner)
    if isinstance(command, click.Group):
        # Options of one name stand together.
        order = [spelled for spelled, _ in of]
        found = sorted(of.items(), key=lambda each: order.index(each[0][0]))
        rows = [(spelled, ", ".join(whose), said) for (spelled, said), whose in found]
        return table(("option", "of", "meaning"), rows)
    return table(("option", "meaning"), of)


def exits_table() -> str:
    rows = [(str(int(each)), each.name, each.meaning) for each in Exit]
    return table(("status", "name", "meaning"), rows)


def _all(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    below = command.commands if isinstance(command, click.Group) else {"": command}
    for name, each in below.items():
        for option in each.params:
            if isinstance(option, click.Option):
                yield name, option


def _spelled(option: click.Option) -> str:
    words = sorted((*option.opts, *option.secondary_opts), key=lambda word: word.startswith("--"))
    return codes(f"{word} {option.metavar}" if option.metavar else word for word in words)


def _meaning(option: click.Option) -> str:
    """The help, and what click adds to it by itself."""
    said = [str(option.help)]
    if option.show_default and option.default is not None:
        said.append(f"Default: {code(str(option.default))}.")
    if isinstance(option.type, click.IntRange):
        said.append(f"From {option.type.min:,} to {option.type.max:,}.")
    if isinstance(option.type, click.Choice) and len(option.type.choices) > 1:
        said.append(f"One of {codes(map(str, option.type.choices))}.")
    return " ".join(said)
