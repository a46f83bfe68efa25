"""Who waits for whom, and who is refused, where many want in at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from dozencloud.hooks.turnstile import HALF_LIFE, REMEMBERED, Failures, Full, Turnstile

SOON = 5.0
"""s in which a thread does what it is free to do."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Person(threading.Thread):
    """Goes in, and stays until it is sent out."""

    def __init__(self, turn: AbstractContextManager[None], order: list[str], name: str) -> None:
        super().__init__(daemon=True, name=name)
        self.turn, self.order = turn, order
        self.inside, self.refused, self.out = (threading.Event() for _ in range(3))
        self.start()

    def run(self) -> None:
        try:
            with self.turn:
                self.order.append(self.name)
                self.inside.set()
                self.out.wait(SOON)
        except Full:
            self.refused.set()


class Door:
    def __init__(self, places: int = 1, suspects: int = 1, waiting: int = 3) -> None:
        self.turnstile = Turnstile(places, suspects, waiting, Clock())
        self.order: list[str] = []
        self.people: list[Person] = []

    def comes(self, address: str, name: str = "x", waits: bool = True) -> Person:
        before = len(self.turnstile._waiting)
        made = Person(self.turnstile.turn(address, name), self.order, f"{address} {name}")
        self.people.append(made)
        if waits:
            while len(self.turnstile._waiting) == before and not made.refused.is_set():
                time.sleep(0.001)
        else:
            assert made.inside.wait(SOON)
        return made


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    for each in made.people:
        each.out.set()


def through(door: Door) -> list[str]:
    """Let everybody out as soon as they are in; the order in which they were."""
    for _ in door.people:
        for each in door.people:
            each.out.set()
    for each in door.people:
        each.join(SOON)
    return door.order


def test_a_class_behind_one_address_goes_in_as_it_came(door: Door) -> None:
    door.comes("class", "a", waits=False)
    for name in "bcd":
        door.comes("class", name)
    assert through(door) == ["class a", "class b", "class c", "class d"]


def test_addresses_take_turns(door: Door) -> None:
    door.comes("many", "1", waits=False)
    door.comes("many", "2")
    door.comes("many", "3")
    door.comes("one", "me")
    assert through(door) == ["many 1", "one me", "many 2", "many 3"]


def test_who_failed_waits_behind_who_did_not(door: Door) -> None:
    door.turnstile.failed("guesser", "victim")
    door.comes("first", waits=False)
    door.comes("guesser", "victim")
    door.comes("home", "victim")
    assert through(door) == ["first x", "home victim", "guesser victim"]


def test_classmates_of_a_guesser_go_before_it(door: Door) -> None:
    door.turnstile.failed("class", "victim")
    door.comes("first", waits=False)
    door.comes("class", "victim")
    door.comes("class", "mate")
    assert through(door) == ["first x", "class mate", "class victim"]


def test_who_failed_leaves_a_place_free() -> None:
    door = Door(places=2, suspects=1)
    for name in ("a", "b"):
        door.turnstile.failed("guesser", name)
    first = door.comes("guesser", "a", waits=False)
    second = door.comes("guesser", "b")
    assert not second.inside.is_set()
    door.comes("somebody", waits=False)
    first.out.set()
    assert second.inside.wait(SOON)
    through(door)


def test_the_worst_is_refused_when_too_many_wait(door: Door) -> None:
    door.turnstile.failed("guesser", "victim")
    door.comes("first", waits=False)
    guesser = door.comes("guesser", "victim")
    door.comes("class", "a")
    door.comes("class", "b")
    last = Person(door.turnstile.turn("class", "c"), door.order, "class c")
    door.people.append(last)
    assert guesser.refused.wait(SOON)
    assert "guesser victim" not in through(door)
    assert "class c" in door.order


def test_a_failure_is_forgiven() -> None:
    clock = Clock()
    failures = Failures(clock)
    failures.add("a")
    failures.add("a")
    assert failures.of("a") == 2
    clock.now += HALF_LIFE
    assert failures.of("a") == 1
    assert failures.of("b") == 0


def test_memory_for_failures_is_bounded() -> None:
    failures = Failures(Clock())
    for number in range(REMEMBERED + 10):
        failures.add(number)
    assert len(failures._seen) == REMEMBERED
    assert failures.of(0) == 0
    assert failures.of(REMEMBERED + 9) == 1
