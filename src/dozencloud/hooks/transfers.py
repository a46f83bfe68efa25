"""Uploads and downloads of images: so many at a time for each user, none slower than a snail.

Around Glance, on the socket for image data (supervision/serve.py). A transfer holds a thread for as
long as its client likes; what one user, with any number of tokens and addresses, holds is bounded,
so that others find threads. Who the user is, Glance's own check of the token says
(keystonemiddleware, which removes what a client claims): it has run when the first byte of a body
is read, or an answer begins.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

AT_A_TIME = 10
"""Transfers of one user."""
GRACE = 60.0
"""s after which an upload must have had its rate."""
RATE = 4096
"""Bytes per second, from the first on. (A client that does not read is ended by a timeout.)"""
TOO_MANY = (
    f"You have {AT_A_TIME} uploads and downloads of images under way, as many as a user may have "
    "at a time. Wait until one has ended, then try again."
)
TOO_SLOW = (
    f"The upload brought less than {RATE} bytes per second and was ended. "
    "Try again by a faster way."
)


class Turns:
    """Counts what is under way, by user."""

    def __init__(self, most: int = AT_A_TIME) -> None:
        self._most = most
        self._count: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, user: str) -> bool:
        """Whether there is one left for that user, who then has it."""
        with self._lock:
            if self._count[user] >= self._most:
                return False
            self._count[user] += 1
            return True

    def give_back(self, user: str) -> None:
        with self._lock:
            self._count[user] -= 1
            if not self._count[user]:
                del self._count[user]


class Refused(Exception):
    """The transfer does not go on; its text says why."""

    def __init__(self, status: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Transfer:
    """One request: its user is counted once the user is known, until it is over."""

    def __init__(self, environ: dict[str, Any], turns: Turns, clock: Callable[[], float]) -> None:
        self._environ, self._turns, self._clock = environ, turns, clock
        self._user: str | None = None
        self._begun, self._bytes = clock(), 0
        self.refused: Refused | None = None

    def _refuse(self, status: str, sentence: str) -> Refused:
        self.refused = Refused(status, sentence)
        return self.refused

    def begin(self) -> None:
        """Count it, if it is not counted; Refused where the user has enough."""
        if self._user is None and (user := self._environ.get("HTTP_X_USER_ID")):
            if not self._turns.take(user):
                raise self._refuse("429 Too Many Requests", TOO_MANY)
            self._user = user

    def came(self, size: int) -> None:
        """So many bytes more of the body; Refused where it goes too slowly."""
        self._bytes += size
        taken = self._clock() - self._begun
        if taken > GRACE and self._bytes < RATE * taken:
            raise self._refuse("408 Request Timeout", TOO_SLOW)

    def end(self) -> None:
        if self._user is not None:
            self._turns.give_back(self._user)
            self._user = None


class Input:
    """wsgi.input, counted."""

    def __init__(self, file: Any, transfer: Transfer) -> None:
        self._file, self._transfer = file, transfer

    def _counted(self, data: bytes) -> bytes:
        self._transfer.came(len(data))
        return data

    def read(self, *size: int) -> bytes:
        self._transfer.begin()
        return self._counted(self._file.read(*size))

    def readline(self, *size: int) -> bytes:
        self._transfer.begin()
        return self._counted(self._file.readline(*size))

    def readlines(self, *hint: int) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def close(self) -> None:
        """Whose it is closes it."""


class Answer:
    """The application's answer; the transfer is over when it is closed."""

    def __init__(self, parts: Iterable[bytes], transfer: Transfer) -> None:
        self._parts, self._transfer = parts, transfer

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def close(self) -> None:
        try:
            if close := getattr(self._parts, "close", None):
                close()
        finally:
            self._transfer.end()


def bounded(
    application: Application,
    turns: Turns | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Application:
    """The application, with the bounds of this module."""
    shared = turns or Turns()

    def inner(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        transfer = Transfer(environ, shared, clock)
        environ["wsgi.input"] = Input(environ["wsgi.input"], transfer)
        said: list[Any] = []
        parts: Iterable[bytes] = ()
        try:
            parts = application(environ, lambda *words: said.append(words))
            # Of what failed the client has little to read.
            if said[-1][0].startswith("2"):
                transfer.begin()
        except BaseException:
            if not transfer.refused:
                transfer.end()
                raise
        answer = Answer(parts, transfer)
        if transfer.refused:
            # Glance has put the image back to what it was; it takes our refusal for its own fault.
            answer.close()
            return _say(transfer.refused, start_response)
        start_response(*said[-1])
        return answer

    return inner


def _say(refused: Refused, start_response: Callable[..., Any]) -> list[bytes]:
    number, _, title = refused.status.partition(" ")
    error = {"code": int(number), "title": title, "message": str(refused)}
    body = json.dumps({"error": error}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Retry-After", "10"),
    ]
    start_response(refused.status, headers)
    return [body]
