"""The request for gdb: a metadata item of the server, which its user writes and its host reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KEY = "dozen_debug"
MOST_MINUTES = 8 * 60


@dataclass(frozen=True)
class DebugRequest:
    """What the metadata item asks for."""

    minutes: int
    """0: close."""
    at_start: bool = False
    """At the server's next start, before its first instruction."""

    def __str__(self) -> str:
        if not self.minutes:
            return "close"
        return f"{self.minutes} stop-at-start" if self.at_start else str(self.minutes)


def request(metadata: Mapping[str, str]) -> DebugRequest | None:
    """`30`, `30 stop-at-start`, `close`; None for anything else."""
    match metadata.get(KEY, "").split():
        case ["close"]:
            return DebugRequest(0)
        case [minutes]:
            at_start = False
        case [minutes, "stop-at-start"]:
            at_start = True
        case _:
            return None
    if not minutes.isascii() or not minutes.isdecimal() or len(minutes) > 4:
        return None
    if not 1 <= int(minutes) <= MOST_MINUTES:
        return None
    return DebugRequest(int(minutes), at_start)
