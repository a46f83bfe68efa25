"""Damaged images: whatever the bytes, the readers end soon and only ever raise BadImage."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import diskimages as made
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dozencloud.images.inspection.formats import open_image
from dozencloud.images.inspection.streams import Scratch
from dozencloud.images.inspection.tree import BadImage, Tree
from dozencloud.images.inspection.volumes import read_disk

pytestmark = pytest.mark.functional

EXAMPLES = 25
"""Of each image: all of them take some ten seconds."""
SECONDS = 10
"""That one of them may take on a busy machine; the usual is 10 ms, the worst seen 3 s."""
MAX_LOOKED_AT = 60
"""Files of a tree that are read."""

IMAGES: dict[str, Callable[[], Path]] = {
    "ext2": lambda: made.ext("ext2"),
    "ext4": lambda: made.ext("ext4"),
    "fat12": lambda: made.fat(12),
    "fat32": lambda: made.fat(32),
    "xfs": made.xfs,
    "btrfs": made.btrfs,
    "squashfs gzip": lambda: made.squashfs("gzip"),
    "squashfs lzo": lambda: made.squashfs("lzo"),
    "squashfs zstd": lambda: made.squashfs("zstd"),
    "gpt": made.disk,
    "qcow2": lambda: made.converted("qcow2"),
    "qcow2 compressed": lambda: made.converted("qcow2", "-c"),
    "qcow2 zstd": lambda: made.converted("qcow2", "-c", "-o", "compression_type=zstd"),
    "vmdk": lambda: made.converted("vmdk"),
    "vmdk stream": lambda: made.converted("vmdk", "-o", "subformat=streamOptimized"),
    "vhdx": lambda: made.converted("vhdx"),
    "tar": lambda: made.tar(""),
    "tar.gz": lambda: made.tar("gz"),
    "tar.xz": lambda: made.tar("xz"),
}

DAMAGE = st.one_of(
    st.sampled_from([b"\0", b"\xff", b"\xff" * 4, b"\xff" * 8, bytes(8), b"\1\0\0\0", b"\0\0\0\1"]),
    st.binary(min_size=1, max_size=4),
)
HITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 511), DAMAGE),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", IMAGES)
def test_damage_ends_in_a_sentence(name: str) -> None:
    path = IMAGES[name]()
    sectors = made.filled(path)
    whole = path.stat().st_size

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hits=HITS, early=st.booleans(), keep=st.one_of(st.just(1.0), st.floats(0.001, 1)))
    def damage(hits: list[tuple[float, int, bytes]], early: bool, keep: float) -> None:
        # Half of the examples hit the first sectors with content, where superblocks are.
        reach = min(len(sectors), 40) if early else len(sectors)
        patches = [(sectors[int(where * reach)] + at, data) for where, at, data in hits]
        size = max(1, int(whole * keep))
        began = time.monotonic()
        look(made.Patched(path, patches, size), size)
        assert time.monotonic() - began < SECONDS

    damage()


def look(file: made.Patched, size: int) -> None:
    try:
        opened = open_image(file, size, Scratch(folder=made.folder()))  # type: ignore[arg-type]
        trees = [opened.tree]
        if opened.disk is not None:
            disk = read_disk(opened.disk, opened.virtual_size)
            trees += [volume.tree for volume in disk.volumes]
    except BadImage as error:
        assert str(error).endswith(".")
        return
    for tree in trees:
        if tree is not None:
            walk(tree)


def walk(tree: Tree) -> None:
    todo, seen = [""], 0
    while todo and seen < MAX_LOOKED_AT:
        path = todo.pop()
        try:
            for name in tree.names(path)[:30]:
                seen += 1
                here = f"{path}/{name}" if path else name
                node = tree.node(here)
                if node is not None and node.is_dir:
                    todo.append(here)
                elif node is not None:
                    tree.read(here, 1 << 20)
        except BadImage as error:
            assert str(error).endswith(".")
