"""The small image in the cloud: the newest build, and older ones for their servers."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dozencloud.content.seed import Seed
from dozencloud.images.tiny.direct import TinyImage


class Glance:
    """Images as openstacksdk shows them: a real Glance takes a cloud (tests/e2e)."""

    def __init__(self) -> None:
        self.all: dict[str, Any] = {}
        self.ids = itertools.count()

    def images(self, **wanted: str) -> Iterator[Any]:
        there = (i for i in self.all.values() if wanted.items() <= vars(i).items())
        return iter([image for image in there if not image.is_hidden])

    def get_image(self, image: str) -> Any:
        return self.all[image]

    def create_image(self, name: str, **more: Any) -> Any:
        image = SimpleNamespace(
            id=f"{next(self.ids):032x}", name=name, status="queued", is_hidden=False, hash_value=""
        )
        image.hash_algo, image.properties, image.owner = "sha512", more, "ours"
        image.is_protected = False
        image.kernel_id, image.ramdisk_id = more.get("kernel_id"), more.get("ramdisk_id")
        self.all[image.id] = image
        return image

    def put(self, path: str, *, data: Any, **_: Any) -> Any:
        image = self.all[path.split("/")[2]]
        image.hash_value, image.status = hashlib.sha512(data.read()).hexdigest(), "active"
        return SimpleNamespace(status_code=204, text="")

    def update_image(self, image: Any, **changes: Any) -> None:
        vars(self.all[image] if isinstance(image, str) else image).update(changes)

    def delete_image(self, image: Any) -> None:
        del self.all[image.id]


@pytest.fixture
def seed(monkeypatch: pytest.MonkeyPatch) -> tuple[Seed, Glance]:
    made, glance = Seed.__new__(Seed), Glance()
    made.sdk = SimpleNamespace(image=glance, current_project_id="ours")
    return made, glance


STEP: Any = SimpleNamespace(note=lambda _words: None)


def tiny(folder: Path, digest: str) -> TinyImage:
    files = []
    for name in ("vmlinuz", "initrd", "disk"):
        (folder / name).write_text(f"{name} of {digest if name != 'vmlinuz' else 'all'}")
        files.append(folder / name)
    return TinyImage("aarch64", *files, "console=ttyAMA0", "6.12", digest)


def names(glance: Glance) -> list[str]:
    return sorted(i.name for i in glance.all.values() if not i.is_hidden)


NAMES = ["tiny-arm64", "tiny-arm64-initrd", "tiny-arm64-kernel"]


def test_a_newer_build_takes_the_name_and_the_old_one_stays(
    seed: tuple[Seed, Glance], tmp_path: Path
) -> None:
    made, glance = seed
    made.image(STEP, tiny(tmp_path, "old"))
    (old,) = glance.images(name="tiny-arm64")
    new = tiny(tmp_path, "new")
    made.image(STEP, new)
    assert made.image_whole("aarch64")
    assert names(glance) == NAMES
    (now,) = glance.images(name="tiny-arm64")
    assert now.properties["dozen_digest"] == "new"
    assert (old.is_hidden, old.name) == (True, f"tiny-arm64-{old.id[:8]}")
    # What the old one starts with is still there; the kernel, which is the same, is shared.
    assert {old.properties["kernel_id"], old.properties["ramdisk_id"]} <= set(glance.all)
    assert now.properties["kernel_id"] == old.properties["kernel_id"]
    assert now.properties["ramdisk_id"] != old.properties["ramdisk_id"]
    made.image(STEP, new)
    assert len(glance.all) == 5


def test_what_was_cut_off_is_replaced(seed: tuple[Seed, Glance], tmp_path: Path) -> None:
    made, glance = seed
    glance.create_image("tiny-arm64-kernel")
    made.image(STEP, tiny(tmp_path, "one"))
    assert names(glance) == NAMES
    assert len(glance.all) == 3


def test_an_image_of_somebody_else_is_left_alone(seed: tuple[Seed, Glance], tmp_path: Path) -> None:
    made, glance = seed
    for name in NAMES:
        glance.create_image(name).owner = "a student's"
    made.image(STEP, tiny(tmp_path, "one"))
    assert names(glance) == sorted(NAMES * 2)


def test_a_part_that_is_gone_is_made_anew_and_all_are_protected(
    seed: tuple[Seed, Glance], tmp_path: Path
) -> None:
    made, glance = seed
    made.image(STEP, tiny(tmp_path, "one"))
    (kernel,) = glance.images(name="tiny-arm64-kernel")
    del glance.all[kernel.id]
    assert not made.image_whole("aarch64")
    made.image(STEP, tiny(tmp_path, "one"))
    assert made.image_whole("aarch64")
    assert all(image.is_protected for image in glance.all.values())
