"""State: kept across processes and threads; a fingerprint depends on every part of its input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dozencloud.cloud.state import State, digest


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    assert State(tmp_path / "state.json").get("a") is None


@pytest.mark.parametrize("value", [True, "text", 5, ["a", "b"], {"a": None}, None])
def test_a_value_comes_back_in_another_process(tmp_path: Path, value: Any) -> None:
    State(tmp_path / "state.json").set("a", value)
    assert State(tmp_path / "state.json").get("a") == value


def test_a_new_value_leaves_the_others(tmp_path: Path) -> None:
    state = State(tmp_path / "state.json")
    state.set("a", 1)
    state.set("b", 2)
    state.set("a", 3)
    assert (state.get("a"), state.get("b")) == (3, 2)


def test_what_threads_write_at_once_is_all_kept(tmp_path: Path) -> None:
    state = State(tmp_path / "state.json")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: state.set(f"name-{n}", n), range(60)))
    assert [state.get(f"name-{n}") for n in range(60)] == list(range(60))


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"[1]", b"null", b"5"])
def test_a_damaged_file_is_forgotten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    state = State(path)
    assert state.get("a") is None
    state.set("a", 2)
    assert state.get("a") == 2


def test_digest_depends_on_every_part() -> None:
    values = [("a", "b"), ("ab",), ("ab", ""), ("", "ab"), ("b", "a"), (), ("",), (b"a", b"bc")]
    assert len({digest(*parts) for parts in values}) == len(values)
    assert digest("a", 5, Path("/x")) == digest("a", 5, Path("/x"))
    assert digest("ü") == digest("ü".encode())
