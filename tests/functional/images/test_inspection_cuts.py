"""Downloads that were cut off: wherever that is, it is said, and never taken for whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import diskimages as made
import pytest

from dozencloud.images.inspection.assemble import inspect
from dozencloud.images.inspection.formats import open_image
from dozencloud.images.inspection.streams import Scratch
from dozencloud.images.inspection.tree import BadImage

pytestmark = pytest.mark.functional


def packed(program: str, ending: str) -> Path:
    made.need(program)
    path = made.folder() / f"disk.raw.{ending}"
    made.run("sh", "-c", f'{program} -c "$1" > "$2"', "sh", made.disk(), path)
    return path


IMAGES: dict[str, Callable[[], Path]] = {
    "raw": made.disk,
    "qcow2": lambda: made.converted("qcow2"),
    "qcow2 compressed": lambda: made.converted("qcow2", "-c"),
    "qcow2 zstd": lambda: made.converted("qcow2", "-c", "-o", "compression_type=zstd"),
    "qcow2 of version 2": lambda: made.converted("qcow2", "-o", "compat=0.10"),
    "qcow2 of small clusters": lambda: made.converted("qcow2", "-o", "cluster_size=512"),
    "vmdk": lambda: made.converted("vmdk"),
    "vhdx": lambda: made.converted("vhdx"),
    "gzip": lambda: packed("gzip", "gz"),
    "xz": lambda: packed("xz", "xz"),
    "zstd": lambda: packed("zstd", "zst"),
    "bzip2": lambda: packed("bzip2", "bz2"),
    "ext4": lambda: made.ext("ext4"),
    "xfs": made.xfs,
    "btrfs": made.btrfs,
}
PADDED = {"qcow2 compressed": 512, "qcow2 zstd": 512}
"""Bytes at the end that may be padding, which nobody misses."""


def verdict(path: Path, size: int) -> str:
    """Why a file that ends there is no image; empty where it is taken for whole."""
    file = made.Patched(path, (), size)
    try:
        opened = open_image(file, size, Scratch(folder=made.folder()))  # type: ignore[arg-type]
        inspect(opened)
    except BadImage as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", IMAGES)
def test_a_cut_is_said_wherever_it_is(name: str) -> None:
    path = IMAGES[name]()
    whole = path.stat().st_size
    assert verdict(path, whole) == ""
    last = whole - PADDED.get(name, 0)
    chosen = random.Random(name)  # noqa: S311  (the same places each time)
    places = {last - 1, last - 600, last - 70_000, last * 9 // 10, last // 2, last // 10}
    places |= {chosen.randrange(4096, last) for _ in range(4)}
    for place in sorted(place for place in places if place > 2048):
        assert verdict(path, place).endswith("."), f"cut at {place:,} of {whole:,}"
