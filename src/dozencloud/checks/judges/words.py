"""Words that the judges have in common."""

from __future__ import annotations

from collections.abc import Iterable

MAX_NAMED = 5  # things named in one sentence


def named(things: Iterable[str]) -> str:
    things = list(things)
    shown, more = things[:MAX_NAMED], len(things) - MAX_NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def is_or_are(things: tuple[str, ...]) -> str:
    return "is" if len(things) == 1 else "are"


def cpus(count: int) -> str:
    return "1 CPU" if count == 1 else f"{count} CPUs"


def gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"
