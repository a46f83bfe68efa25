"""The small image in the cloud: the newest build, and older ones for their servers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dozencloud.images.tiny import TinyImage
from dozencloud.seed import Seed


class Glance:
    """Images as openstacksdk shows them: a real Glance takes a cloud (tests/e2e)."""

    def __init__(self) -> None:
        self.all: dict[str, Any] = {}

    def images(self, name: str, owner: str = "ours") -> Iterator[Any]:
        there = (i for i in self.all.values() if (i.name, i.owner) == (name, owner))
        return iter([image for image in there if not image.is_hidden])

    def create_image(self, name: str, **more: Any) -> Any:
        image = SimpleNamespace(
            id=f"{len(self.all):032x}", name=name, status="queued", is_hidden=False, hash_value=""
        )
        image.hash_algo, image.properties, image.owner = "sha512", more, "ours"
        self.all[image.id] = image
        return image

    def put(self, path: str, *, data: Any, **_: Any) -> Any:
        image = self.all[path.split("/")[2]]
        image.hash_value, image.status = hashlib.sha512(data.read()).hexdigest(), "active"
        return SimpleNamespace(status_code=204, text="")

    def update_image(self, image: Any, **changes: Any) -> None:
        vars(image).update(changes)

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
    (old,) = glance.images("tiny-arm64")
    assert made.image_there(tiny(tmp_path, "old"))
    new = tiny(tmp_path, "new")
    assert not made.image_there(new)
    made.image(STEP, new)
    assert made.image_there(new)
    assert names(glance) == NAMES
    (now,) = glance.images("tiny-arm64")
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
