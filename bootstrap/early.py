"""`dozen` before there is an environment: help, `doctor`, and what was mistyped.

It is the command itself, run by the system's own Python with nothing beside it but click, whose
wheel is here. What needs the environment ends with a status of its own, and nothing was changed.

    early.py BASE INDEX [WORD ...]: where the environment is to be, and where from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
POSSIBLE = {"doctor", "config", "completion"}
"""These need the standard library and click alone."""


def main(base: str, index: str, *words: str) -> None:
    """Run the command as far as that goes."""
    (wheel,) = HERE.glob("click-*.whl")
    sys.path[:0] = [str(HERE.parent / "src"), str(wheel)]
    from dozencloud import cli
    from dozencloud.cli import common

    def needed(**_: Any) -> NoReturn:
        sys.exit(common.NEEDED)

    common.MISSING = common.Missing(Path(base), index)
    for command in common.leaves(cli.cli):
        if command.name not in POSSIBLE:
            command.callback = needed
    sys.argv[1:] = words
    cli.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
