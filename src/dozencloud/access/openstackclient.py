"""The OpenStack client; on a terminal, what others have chosen cannot give orders to it.

It prints names, and the consoles of servers, as they are. Into a file or a pipe it still does.
"""

from __future__ import annotations

import io
import sys
from typing import TextIO

from dozencloud import legible


class Terminal(io.TextIOWrapper):
    """Text on its way to a terminal."""

    def write(self, said: str) -> int:
        super().write(legible.text(said))
        return len(said)


def guarded(stream: TextIO) -> TextIO:
    """The stream, or one in front of it if it is a terminal."""
    if not stream.isatty():
        return stream
    return Terminal(
        stream.buffer, encoding=stream.encoding, errors="backslashreplace", line_buffering=True
    )


def main() -> int:
    """`openstack` with these arguments."""
    from openstackclient import shell

    sys.argv[0] = "openstack"
    if sys.argv[1:]:  # alone it asks for commands, with an editor that needs the terminal itself
        sys.stdout, sys.stderr = guarded(sys.stdout), guarded(sys.stderr)
    status: int = shell.main(sys.argv[1:])
    return status


if __name__ == "__main__":
    sys.exit(main())
