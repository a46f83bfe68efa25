"""The cache of images on a node is small."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="Debian's libvirt bindings need root once to be linked")

from nova.virt.libvirt.imagecache import get_cache_fname

from dozencloud.compute import basefiles
from dozencloud.compute.basefiles import IDLE, SPACE, YOUNG, Unused, to_forget

DAY = 86400


def file(name: str, idle: float, *, size: int = 1, doubtful: bool = False) -> Unused:
    return Unused(Path(name), size, idle, doubtful)


def names(files: list[Unused]) -> list[str]:
    return sorted(each.path.name for each in files)


def test_what_is_old_or_failed_goes() -> None:
    found = to_forget(
        [
            file("young", 0),
            file("recent", IDLE - 1),
            file("old", IDLE + 1),
            file("failed", YOUNG + 1, doubtful=True),
            file("failed-just-now", YOUNG - 1, doubtful=True),
        ]
    )
    assert names(found) == ["failed", "old"]


def test_the_oldest_go_where_they_take_too_much() -> None:
    half = SPACE // 2
    ages = [10, 100, 200, 300]
    found = to_forget([file(f"idle-{age}", age, size=half) for age in ages])
    assert names(found) == ["idle-200", "idle-300"]
    # Those that a server may just be about to use stay, however large.
    assert to_forget([file("a", 1, size=SPACE), file("b", 2, size=SPACE)]) == []


def qcow2(path: Path, backing: str) -> None:
    name = backing.encode()
    head = struct.pack(">4sIQI", b"QFI\xfb", 3, 104 if name else 0, len(name))
    path.write_bytes(head.ljust(104, b"\0") + name)


def test_files_that_disks_are_based_on_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances, cache = tmp_path, tmp_path / "_base"
    cache.mkdir()
    used, moved, idle, failed = (get_cache_fname(each) for each in ("u", "m", "i", "f"))
    for name in (used, moved, idle, failed, "swap_512"):
        (cache / name).write_bytes(b"x")
    for folder, base in (("1-server", used), ("2-server_resize", moved)):
        (instances / folder).mkdir()
        qcow2(instances / folder / "disk", f"/somewhere/_base/{base}")
    (instances / "1-server" / "disk.config").write_bytes(b"not qcow2")
    basefiles.doubt(cache, ["f", "u", "never-fetched"])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + YOUNG + 5)
    basefiles.forget(instances, cache)
    assert {each.name for each in cache.iterdir()} == {used, moved, idle, "swap_512"}
    monkeypatch.setattr(time, "time", lambda: now + IDLE + 5)
    basefiles.forget(instances, cache)
    assert {each.name for each in cache.iterdir()} == {used, moved, "swap_512"}


def test_without_a_cache_there_is_nothing_to_forget(tmp_path: Path) -> None:
    basefiles.forget(tmp_path, tmp_path / "_base")


def test_what_a_killed_download_left_goes_at_the_start(tmp_path: Path) -> None:
    for name in ("a.part", "a.converted", "a"):
        (tmp_path / name).touch()
    basefiles.forget_parts(tmp_path)
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208
