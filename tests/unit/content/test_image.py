"""The small image in the cloud: the newest build, and older ones for their servers."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from glance_kit import Glance
from images_kit import arm64_image, initrd

from dozencloud.cloud.installation import Cloud
from dozencloud.content import image
from dozencloud.errors import Problem
from dozencloud.images.tiny.direct import TinyImage
from dozencloud.tasks.graph import Step

NAMES = ["tiny-arm64", "tiny-arm64-initrd", "tiny-arm64-kernel"]


def tiny(folder: Path, digest: str, kernel: str = "6.12") -> TinyImage:
    """Files that an inspection takes for what they are; the kernel is the same in each build."""
    for name, data in (
        ("vmlinuz", arm64_image(kernel)),
        ("initrd", initrd("virtio_blk") + digest.encode()),
        ("disk", digest.encode().ljust(1 << 20, b"\0")),
    ):
        (folder / name).write_bytes(data)
    files = (folder / name for name in ("vmlinuz", "initrd", "disk"))
    return TinyImage("aarch64", *files, "console=ttyAMA0", "6.12", digest)


@pytest.fixture
def put(tmp_path: Path) -> Any:
    glance = Glance()

    def put(built: TinyImage) -> Glance:
        step = Step(log=StringIO())
        image.put(glance, Cloud(tmp_path), built, image.look(built), step)
        return glance

    return put


def test_it_says_what_every_imported_image_says(put: Any, tmp_path: Path) -> None:
    glance = put(tiny(tmp_path, "one"))
    (disk,) = glance.images(name="tiny-arm64")
    links = {"kernel_id": disk.kernel_id, "ramdisk_id": disk.ramdisk_id}
    assert disk.properties == links | {
        "hw_architecture": "aarch64",
        "img_hv_type": "qemu",
        "hw_vm_mode": "hvm",
        "hw_machine_type": "virt",
        "hw_disk_bus": "virtio",
        "hw_vif_model": "virtio",
        "hw_rng_model": "virtio",
        "hw_cdrom_bus": "scsi",
        "hw_scsi_model": "virtio-scsi",
        "hw_video_model": "none",
        "trait:COMPUTE_ARCH_AARCH64": "required",
        "os_command_line": "console=ttyAMA0",
        "os_distro": "debian",
        "dozen_digest": "one",
    }
    assert (disk.visibility, disk.min_disk, disk.min_ram) == ("public", 1, 128)


def test_one_of_a_release_before_gets_the_properties_that_it_lacks(
    put: Any, tmp_path: Path
) -> None:
    glance = put(tiny(tmp_path, "one"))
    (disk,) = glance.images(name="tiny-arm64")
    wanted = dict(disk.properties)
    for name in ("img_hv_type", "hw_vm_mode", "hw_disk_bus"):
        del disk.properties[name]
    put(tiny(tmp_path, "one"))
    assert (list(glance.images(name="tiny-arm64")), disk.properties) == ([disk], wanted)
    assert len(glance.all) == 3


def test_a_newer_build_takes_the_name_and_the_old_one_stays(put: Any, tmp_path: Path) -> None:
    glance = put(tiny(tmp_path, "old"))
    (old,) = glance.images(name="tiny-arm64")
    new = tiny(tmp_path, "new")
    put(new)
    assert image.whole(glance, "aarch64")
    assert glance.shown() == NAMES
    (now,) = glance.images(name="tiny-arm64")
    assert now.properties["dozen_digest"] == "new"
    assert (old.is_hidden, old.name) == (True, f"tiny-arm64-{old.id[:8]}")
    # What the old one starts with is still there; the kernel, which is the same, is shared.
    assert {old.properties["kernel_id"], old.properties["ramdisk_id"]} <= set(glance.all)
    assert now.properties["kernel_id"] == old.properties["kernel_id"]
    assert now.properties["ramdisk_id"] != old.properties["ramdisk_id"]
    put(new)
    assert len(glance.all) == 5


def test_what_was_cut_off_is_replaced(put: Any, tmp_path: Path) -> None:
    glance = put(tiny(tmp_path, "one"))
    glance.all.clear()
    glance.store("tiny-arm64-kernel", dozen_import="1")
    put(tiny(tmp_path, "one"))
    assert glance.shown() == NAMES
    assert len(glance.all) == 3


def test_what_a_release_before_left_half_uploaded_loses_the_name(put: Any, tmp_path: Path) -> None:
    """It has no mark, and may as well be somebody's own."""
    glance = put(tiny(tmp_path, "one"))
    (disk,) = glance.images(name="tiny-arm64")
    half = glance.store("tiny-arm64")
    put(tiny(tmp_path, "one"))
    assert list(glance.images(name="tiny-arm64")) == [disk]
    assert half.is_hidden


def test_an_image_of_somebody_else_is_left_alone(put: Any, tmp_path: Path) -> None:
    glance = put(tiny(tmp_path, "one"))
    glance.all.clear()
    for name in NAMES:
        glance.store(name, owner="a student's")
    put(tiny(tmp_path, "one"))
    assert glance.shown() == sorted(NAMES * 2)


def test_a_part_that_is_gone_is_made_anew_and_all_are_protected(put: Any, tmp_path: Path) -> None:
    glance = put(tiny(tmp_path, "one"))
    (kernel,) = glance.images(name="tiny-arm64-kernel")
    del glance.all[kernel.id]
    assert not image.whole(glance, "aarch64")
    put(tiny(tmp_path, "one"))
    assert image.whole(glance, "aarch64")
    assert all(each.is_protected for each in glance.all.values())


def test_one_that_names_no_kernel_is_not_whole(put: Any, tmp_path: Path) -> None:
    glance = put(tiny(tmp_path, "one"))
    (disk,) = glance.images(name="tiny-arm64")
    disk.kernel_id = None
    assert not image.whole(glance, "aarch64")


def test_a_build_that_cannot_start_is_not_uploaded(tmp_path: Path) -> None:
    built = tiny(tmp_path, "one")
    built.kernel.write_bytes(bytes(1 << 20))
    with pytest.raises(Problem, match="tiny-arm64 cannot start: The kernel that the image names"):
        image.look(built)
