"""Failures that a person can mend, and what the exit status of `dozen` means."""

from __future__ import annotations

import subprocess
from enum import IntEnum
from pathlib import Path


class Exit(IntEnum):
    """Exit status of the `dozen` command (documented in docs/operations.md)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNFIT = 3
    """This machine cannot do it as it is; nothing was changed."""
    NO_CLOUD = 4
    """There is no cloud under this root."""
    BUSY = 5
    """Another `dozen` is at work on the same cloud."""
    DEGRADED = 6
    """The cloud runs, but not all of it (`dozen status`, `dozen doctor`)."""
    INTERRUPTED = 130


class Problem(Exception):
    """A failure said in one sentence, with the next step.

    what: the cause, one sentence, ends with a full stop.
    mend: what to do next, one sentence or command; empty if there is nothing to do.
    detail: the last lines of a command or log that led to it; may be empty.
    code: the exit status.
    """

    def __init__(
        self, what: str, mend: str = "", *, detail: str = "", code: Exit = Exit.FAILED
    ) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend
        self.detail = detail
        self.code = code

    def __str__(self) -> str:
        return f"{self.what} {self.mend}".strip()


def overdue(error: subprocess.TimeoutExpired) -> Problem:
    """A command that was ended because it took too long."""
    words = [error.cmd] if isinstance(error.cmd, str | bytes) else list(error.cmd)
    name = Path(str(words[0])).name
    return Problem(
        f"{name} did not end within {round(error.timeout, 1):g} s.",
        "Look at what keeps this machine busy (top), then run the same command again.",
    )
