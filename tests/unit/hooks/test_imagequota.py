"""Image data is counted while it comes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from dozencloud.hooks import imagequota
from dozencloud.hooks.imagequota import Counted, Full, Ledger


def test_one_stream_ends_at_the_limit() -> None:
    ledger = Ledger()
    with pytest.raises(Full, match="limit"), ledger.stream("a", 100) as take:
        take(60)
        take(40)
        take(1)


def test_streams_of_a_project_share_what_is_left() -> None:
    ledger = Ledger()
    with ledger.stream("a", 100) as first, ledger.stream("a", 100) as second:
        first(60)
        second(40)
        with pytest.raises(Full):
            second(1)
        with ledger.stream("b", 100) as other:
            other(100)


def test_what_came_whole_stays_counted_and_what_failed_does_not() -> None:
    ledger = Ledger()
    with ledger.stream("a", 100) as slow:
        with ledger.stream("a", 100) as whole:
            whole(50)
        with pytest.raises(OSError, match="x"), ledger.stream("a", 50) as failing:
            failing(50)
            raise OSError("x")
        slow(50)
        with pytest.raises(Full):
            slow(1)


def test_an_idle_stream_survives_the_end_of_others() -> None:
    ledger = Ledger()
    with ledger.stream("a", 100) as idle:
        with ledger.stream("a", 100) as other:
            other(1)
        idle(10)


def test_without_a_limit_all_comes() -> None:
    with Ledger().stream("a", None) as take:
        take(1 << 60)


@pytest.mark.parametrize(
    "drain", [lambda data: b"".join(data), lambda data: data.read(), lambda data: data.read(5)]
)
def test_every_way_of_reading_counts(drain: Callable[[Counted], bytes], tmp_path: Path) -> None:
    came: list[int] = []
    data = Counted(io.BytesIO(b"12345"), came.append, tmp_path)
    assert drain(data) == b"12345"
    assert sum(came) == 5
    data.close()


def test_a_full_disk_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagequota, "DISK_LEFT", 1 << 62)
    with pytest.raises(Full, match="disk"):
        Counted(io.BytesIO(b"12345"), lambda _: None, tmp_path).read()
