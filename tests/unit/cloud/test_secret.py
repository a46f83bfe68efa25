"""Secrets: private from the first byte, never half there, stable, safe among threads."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dozencloud.cloud.secret import Secrets
from dozencloud.errors import Problem
from dozencloud.private import write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("wanted", [0o600, 0o640, 0o644])
def test_mode_and_content(tmp_path: Path, wanted: int) -> None:
    path = tmp_path / "file"
    old = os.umask(0o022)
    try:
        write_private(path, "grün\n", wanted)
    finally:
        os.umask(old)
    assert mode(path) == wanted
    assert path.read_bytes() == "grün\n".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_private_before_the_first_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the moment of the write, with the most careless umask."""
    seen = []
    real = os.fdopen

    def look(descriptor: int, mode: str) -> object:
        status = os.fstat(descriptor)
        seen.append((stat.S_IMODE(status.st_mode), status.st_size))
        return real(descriptor, mode)

    monkeypatch.setattr(os, "fdopen", look)
    old = os.umask(0)
    try:
        write_private(tmp_path / "file", b"secret")
    finally:
        os.umask(old)
    assert seen == [(0o600, 0)]


def test_an_open_reader_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "old")
    with path.open() as reader:
        write_private(path, "new, and longer")
        assert reader.read() == "old"
    assert path.read_text() == "new, and longer"


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_private(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_private(path, "new")
    assert path.read_text() == "old"
    write_private(path, "new")
    assert path.read_text() == "new"


def test_what_a_killed_write_left_is_no_way_in(tmp_path: Path) -> None:
    """A link or a readable file in the place of the file aside is not written through."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / ".file.new").symlink_to(victim)
    write_private(tmp_path / "file", "secret")
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "file").is_symlink()
    assert mode(tmp_path / "file") == 0o600


def test_a_password_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "secrets.json"
    secrets = Secrets(path)
    assert not path.exists()
    first, second = secrets["a"], secrets["b"]
    assert re.fullmatch("[0-9a-f]{48}", first)
    assert first != second
    assert secrets["a"] == first
    assert mode(path) == 0o600
    again = Secrets(path)
    assert (again["a"], again["b"]) == (first, second)
    assert json.loads(path.read_text()) == {"a": first, "b": second}


def test_many_threads_get_the_same_password(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets.json")
    names = [f"name-{n % 5}" for n in range(100)]
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(secrets.__getitem__, names))
    kept = json.loads((tmp_path / "secrets.json").read_text())
    assert len(set(kept.values())) == 5
    assert got == [kept[name] for name in names]


@pytest.mark.parametrize("content", [b"", b'{"a": "b', b"\xff\xfe", b"no"])
def test_a_damaged_file_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secrets.json"
    path.write_bytes(content)
    with pytest.raises(Problem) as refused:
        Secrets(path)
    assert refused.value.what.startswith(f"{path} is damaged: ")
    assert "backup" in refused.value.mend
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["[]", "null", '{"a": 5}', '"text"'])
def test_json_that_is_no_table_of_texts_is_damaged_too(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(content)
    with pytest.raises(Problem, match="is damaged"):
        Secrets(path)


@pytest.mark.functional
def test_another_user_is_told_to_use_sudo() -> None:
    code = "import sys; from pathlib import Path; from dozencloud.cloud.secret import Secrets\n"
    code += "Secrets(Path(sys.argv[1]))"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        path = Path(folder, "secrets.json")
        Secrets(path)["a"]
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            check=False,
            capture_output=True,
            text=True,
            user="nobody",
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]},
        )
    assert "cannot be read. Use sudo." in done.stderr
