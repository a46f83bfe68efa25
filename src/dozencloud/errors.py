"""Failures that a person can mend, and what the exit status of `dozen` means."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Self


class Exit(IntEnum):
    """Exit status of the `dozen` command, and its meaning for people."""

    meaning: str

    def __new__(cls, status: int, meaning: str) -> Self:
        made = int.__new__(cls, status)
        made._value_ = status
        made.meaning = meaning
        return made

    OK = 0, "it worked"
    FAILED = 1, "it failed; the message says why, and what to do"
    USAGE = 2, "wrong arguments, or a mistake in cloud.toml"
    UNFIT = 3, "this machine cannot do it as it is; nothing was changed"
    NO_CLOUD = 4, "there is no cloud"
    BUSY = 5, "another dozen is at work on the same cloud"
    DEGRADED = 6, "the cloud runs, but not all of it"
    INTERRUPTED = 130, "interrupted by Ctrl-C or a signal"


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


def foreseen(error: BaseException) -> Problem | None:
    """A sentence for what the system refused; None for anything else."""
    problem = None
    if isinstance(error, PermissionError) and os.geteuid():
        problem = Problem(f"{error.filename} cannot be opened.", "Use sudo.")
    elif isinstance(error, subprocess.TimeoutExpired):
        problem = overdue(error)
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        problem = Problem("The disk is full.", "Make room; to see where it went: df -h")
    elif isinstance(error, OSError) and error.filename and error.strerror:
        shown = str(error.filename)
        problem = Problem(f"{shown[:200]} cannot be used: {error.strerror}.")
    if problem:
        problem.__cause__ = error
    return problem


def unforeseen(error: BaseException, mend: str = "") -> Problem:
    """A sentence for what no part of the program expected."""
    text = " ".join(str(error).split())
    problem = Problem(f"An error that nobody foresaw: {type(error).__name__}: {text}.", mend)
    problem.__cause__ = error
    return problem


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, down to the innermost: libraries wrap it several times."""
    reason: object = error
    while isinstance(reason, BaseException):
        yield reason
        inner = getattr(reason, "reason", None) or reason.__cause__ or reason.__context__
        reason = inner or (reason.args[0] if reason.args else None)


def network_reason(error: BaseException) -> str:
    """Why a connection failed, in words."""
    for reason in causes(error):
        if isinstance(reason, socket.gaierror):
            return "its name is not known"
        if isinstance(reason, OSError) and reason.strerror:
            return reason.strerror.lower()
        if isinstance(reason, TimeoutError):
            return "no answer in time"
    return "the connection failed"
