"""Whose turn it is, where many want what few can have at a time, and some only want to guess.

Who has failed often of late waits behind who has not, and has fewer places. So somebody who guesses
passwords, from however many addresses, is slow, and whose name is guessed is not. Nobody is locked.
Among the others the addresses take turns.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HALF_LIFE = 300.0
"""s after which a failure counts half."""
REMEMBERED = 20000
"""Sources whose failures are kept, those of the latest failures."""
SUSPECT = 0.5
"""Failures from which on a source is one."""


class Failures:
    """How often each source failed, less what time has forgiven."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def of(self, source: Hashable) -> float:
        count, then = self._seen.get(source, (0.0, 0.0))
        return count * 0.5 ** ((self._clock() - then) / HALF_LIFE) if count else 0.0

    def add(self, source: Hashable) -> None:
        count = self.of(source) + 1.0
        self._seen.pop(source, None)
        self._seen[source] = (count, self._clock())
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)


@dataclass(eq=False)
class _Waiting:
    """score: failures of its source. ahead: how many came from its address and are not through."""

    address: str
    score: float
    ahead: int
    number: int
    woken: threading.Event = field(default_factory=threading.Event)
    refused: bool = False

    @property
    def rank(self) -> tuple[float, int, int]:
        return self.score, self.ahead, self.number

    @property
    def suspect(self) -> bool:
        return self.score >= SUSPECT


class Full(Exception):
    """Too many wait already, and none of them has failed as often."""


class Turnstile:
    """places: held at a time. suspects: of these, by who has failed. waiting: at most."""

    def __init__(
        self,
        places: int,
        suspects: int,
        waiting: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places, self._suspects, self._most = places, suspects, waiting
        self._failures = Failures(clock)
        self._lock = threading.Lock()
        self._inside: list[_Waiting] = []
        self._waiting: list[_Waiting] = []
        self._number = 0

    def failed(self, address: str, name: str) -> None:
        """Remember it of the address, and of the name from there: others there are not to blame."""
        with self._lock:
            self._failures.add(address)
            self._failures.add((address, name))

    @contextmanager
    def turn(self, address: str, name: str) -> Iterator[None]:
        """A place, as soon as it is this one's turn. Raises Full."""
        with self._lock:
            score = self._failures.of(address) + self._failures.of((address, name))
            self._number += 1
            ahead = sum(each.address == address for each in self._inside + self._waiting)
            me = _Waiting(address, score if score >= SUSPECT else 0.0, ahead, self._number)
            self._waiting.append(me)
            self._admit()
            if len(self._waiting) > self._most:
                worst = max(self._waiting, key=lambda each: each.rank)
                self._waiting.remove(worst)
                worst.refused = True
                worst.woken.set()
        me.woken.wait()
        if me.refused:
            raise Full
        try:
            yield
        finally:
            with self._lock:
                self._inside.remove(me)
                self._admit()

    def _admit(self) -> None:
        """Let in who comes next, while there are places."""
        for each in sorted(self._waiting, key=lambda each: each.rank):
            if len(self._inside) >= self._places:
                return
            if each.suspect and sum(one.suspect for one in self._inside) >= self._suspects:
                return  # so are all behind it
            self._waiting.remove(each)
            self._inside.append(each)
            each.woken.set()
