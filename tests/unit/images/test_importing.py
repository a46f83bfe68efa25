"""Imports: what is refused before anything is uploaded, and what is done where it is there."""

from __future__ import annotations

import gzip
import lzma
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from glance_kit import Glance
from images_kit import ELF_X86, arm64_image, bzimage, initrd

from dozencloud.errors import Problem
from dozencloud.images import importing, uploads
from dozencloud.images.importing import (
    LONGEST,
    Importer,
    check_texts,
    room_for,
    take_out,
    work_folder,
)
from dozencloud.images.inspection.model import (
    Arch,
    Boot,
    Compression,
    Format,
    Initrd,
    Inspection,
    Kernel,
    KernelKind,
)


def test_what_a_killed_import_left_goes_with_the_next(tmp_path: Path) -> None:
    (tmp_path / "import-killed").mkdir()
    (tmp_path / "import-killed" / "disk").touch()
    (tmp_path / "ubuntu-24.04.part").touch()
    with work_folder(tmp_path) as one, work_folder(tmp_path) as other:
        assert one != other
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {one.name, other.name, "ubuntu-24.04.part"}
    assert [path.name for path in tmp_path.iterdir()] == ["ubuntu-24.04.part"]


def test_room_is_asked_for_before_work_begins(tmp_path: Path) -> None:
    room_for(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(Problem, match="MiB free; the image needs"):
        room_for(tmp_path, 1 << 60)


@pytest.mark.parametrize(
    ("name", "own", "said"),
    [
        ("", {}, "has 0 characters"),
        ("a" * 300, {}, "has 300 characters"),
        ("crab \U0001f980", {}, "cannot store a character of the name"),
        ("a\udcff", {}, "cannot store a character of the name a\\udcff"),
        ("a\nb", {}, "is not one line of text"),
        ("x", {"k\n": "y"}, "Glance takes no property"),
        ("x", {"": "y"}, "Glance takes no property ''"),
        ("x", {"k": "\U0001f980"}, "Glance takes no property 'k'"),
    ],
)
def test_names_that_no_database_takes(name: str, own: dict[str, str], said: str) -> None:
    with pytest.raises(Problem, match=re.escape(said)):
        check_texts(name, own)


@pytest.mark.parametrize("name", ["x", "日本", "Ω-lab", "é (1)", "a" * 248])
def test_names_in_any_language(name: str) -> None:
    check_texts(name, {"os_distro": "日本", "description": "two\nlines"})


@pytest.fixture
def cloud(tmp_path: Path) -> tuple[Importer, Glance]:
    glance = Glance()
    return Importer(glance, tmp_path / "work", lambda *_: None), glance


def bare_kernel(tmp_path: Path) -> Path:
    path = tmp_path / "Image"
    path.write_bytes(arm64_image("6.12.0"))
    return path


def test_what_is_there_becomes_public(cloud: tuple[Importer, Glance], tmp_path: Path) -> None:
    importer, glance = cloud
    path = bare_kernel(tmp_path)
    first = importer.run(path, "k").stored
    assert (first.new, glance.all[first.id].visibility) == (True, "private")
    again = importer.run(path, "k", public=True).stored
    assert (again.new, again.id, glance.all[first.id].visibility) == (False, first.id, "public")
    importer.run(path, "k")
    assert glance.all[first.id].visibility == "public"


def test_new_content_takes_the_name_and_the_old_one_stays(
    cloud: tuple[Importer, Glance], tmp_path: Path
) -> None:
    importer, glance = cloud
    path = bare_kernel(tmp_path)
    old = importer.run(path, "k").stored
    path.write_bytes(arm64_image("6.13.0"))
    done = importer.run(path, "k").stored
    aside = f"k-{old.id[:8]}"
    assert (done.new, done.older) == (True, (aside,))
    assert (glance.all[old.id].name, glance.all[old.id].is_hidden) == (aside, True)
    assert glance.shown() == ["k"]
    assert importer.run(path, "k").stored == replace(done, new=False, older=())
    long = "a" * LONGEST
    first = importer.run(path, long).stored
    importer.run(bare_kernel(tmp_path), long)
    assert len(glance.all[first.id].name) == uploads.LONGEST


def test_images_of_other_projects_keep_their_names(
    cloud: tuple[Importer, Glance], tmp_path: Path
) -> None:
    importer, glance = cloud
    path = bare_kernel(tmp_path)
    theirs = glance.store("k", path.read_bytes(), owner="a student's")
    cut = glance.store("k", owner="a student's", **{uploads.PARTIAL: "1"})
    done = importer.run(path, "k").stored
    assert (done.new, done.older) == (True, ())
    assert (theirs.name, cut.name, theirs.is_hidden, cut.is_hidden) == ("k", "k", False, False)


@pytest.mark.parametrize("hidden", [True, False])
def test_what_a_killed_import_left_in_the_cloud_goes_with_the_next(
    hidden: bool, cloud: tuple[Importer, Glance], tmp_path: Path
) -> None:
    """Releases before this one did not hide an image while it was uploaded."""
    importer, glance = cloud
    for name in ("k", "k-kernel", "k-initrd"):
        glance.store(name, **{uploads.PARTIAL: "1"}).is_hidden = hidden
    done = importer.run(bare_kernel(tmp_path), "k").stored
    assert list(glance.all) == [done.id]
    (made,) = glance.all.values()
    assert (made.is_hidden, uploads.PARTIAL in made.properties) == (False, False)


def test_what_glance_does_not_take_leaves_the_older_one_its_name(
    cloud: tuple[Importer, Glance], tmp_path: Path
) -> None:
    importer, glance = cloud
    path = bare_kernel(tmp_path)
    old = importer.run(path, "k").stored
    path.write_bytes(arm64_image("6.13.0"))
    glance.refuses_data = True
    with pytest.raises(Problem, match=r"Glance did not take k: No room\."):
        importer.run(path, "k")
    assert (list(glance.all), glance.shown()) == ([old.id], ["k"])


def test_an_image_is_judged_with_the_kernel_that_it_names(
    cloud: tuple[Importer, Glance], tmp_path: Path
) -> None:
    importer, glance = cloud
    kernel = importer.run(bare_kernel(tmp_path), "k").stored.id

    def store(data: bytes, **links: str) -> str:
        return str(glance.store("x", data, **links).id)

    def inspected(**links: str) -> Inspection:
        folder = tmp_path / str(len(glance.all))
        folder.mkdir()
        return importer.inspect(store(bytes(1 << 20), **links), folder)

    ramdisk = store(initrd("virtio_blk"))
    line = "console=ttyAMA0"
    found = inspected(kernel_id=kernel, ramdisk_id=ramdisk, os_command_line=line)
    assert (found.boot, found.arch, found.reason) == (Boot.KERNEL, Arch.AARCH64, "")
    assert (found.command_line, len(found.kernels), len(found.initrds)) == (line, 1, 1)
    assert inspected(kernel_id=kernel).boot is Boot.KERNEL
    assert inspected().boot is Boot.NONE
    for wrong, said in (
        ({"kernel_id": kernel, "ramdisk_id": kernel}, "The initial RAM disk that the image names"),
        ({"kernel_id": ramdisk}, "The kernel that the image names does not start"),
        ({"kernel_id": store(bzimage())}, "This is a kernel for x86-64"),
        ({"kernel_id": kernel, "ramdisk_id": store(initrd(program=ELF_X86))}, "cannot run them"),
    ):
        assert said in inspected(**wrong).reason
    with pytest.raises(Problem, match="There is no image gone"):
        inspected(kernel_id="gone")


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_cut_image_is_not_uploaded(
    cut: int, cloud: tuple[Importer, Glance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importer, glance = cloud
    path = tmp_path / "disk.img.gz"
    path.write_bytes(gzip.compress(os.urandom(20_000))[:-cut])
    with pytest.raises(Problem, match=r"disk\.img\.gz cannot be used: .* ends before"):
        importer.run(path, "x")
    # What took too long to be looked at to its end is unpacked before it is uploaded.
    known = Inspection(Format.RAW, Boot.UEFI, compression=Compression.GZIP, virtual_size=20_000)
    monkeypatch.setattr(importing, "inspect_file", lambda _path: known)
    with pytest.raises(Problem, match=r"disk\.img\.gz cannot be used: .* ends before"):
        importer.run(path, "x")
    path.write_bytes(gzip.compress(bytes(20_000 - cut)))
    with pytest.raises(Problem, match="it is cut off"):
        importer.run(path, "x")
    assert glance.all == {}


def test_a_compressed_disk_with_tables_is_unpacked_to_what_it_is(
    cloud: tuple[Importer, Glance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A qcow2 takes less than the disk in it."""
    importer, glance = cloud
    path = tmp_path / "disk.qcow2.xz"
    path.write_bytes(lzma.compress(bytes(20_000)))
    known = Inspection(Format.QCOW2, Boot.UEFI, compression=Compression.XZ, virtual_size=10 << 30)
    monkeypatch.setattr(importing, "inspect_file", lambda _path: known)
    made = importer.run(path, "x")
    assert glance.all[made.stored.id].size == 20_000


def test_several_initrds_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"vmlinuz": b"kernel", "a": b"12345", "b": b"6789", "c": b"x"}

    def extract(_image: Path, _where: int, path: str, target: Path, *, form: str) -> None:
        target.write_bytes(files[path])

    monkeypatch.setattr(importing, "extract_file", extract)
    inspection = Inspection(
        Format.RAW,
        Boot.KERNEL,
        kernel=Kernel(1, "vmlinuz", KernelKind.ARM64_IMAGE, Arch.AARCH64),
        initrds=tuple(Initrd(1, name, Compression.NONE) for name in ("a", "b", "c")),
    )
    boots = take_out(tmp_path / "disk", tmp_path, inspection)
    assert boots.initrd is not None
    assert boots.initrd.read_bytes() == b"12345\0\0\0" + b"6789" + b"x"
    assert take_out(tmp_path, tmp_path, replace(inspection, initrds=())).initrd is None
    monkeypatch.setattr(importing, "LARGEST_EXTRACTED", 10)
    with pytest.raises(Problem, match="initial RAM disks have more than"):
        take_out(tmp_path / "disk", tmp_path, inspection)


@pytest.mark.parametrize(
    ("container", "kernel", "firmware", "told"),
    [
        ("bare", None, "uefi", "uefi"),
        ("bare", "0f-1", "", "kernel"),
        ("docker", None, "", "rootfs"),
        ("bare", None, "", ""),
        ("bare", None, "bios", ""),
    ],
)
def test_how_an_image_boots_is_told_where_it_is_known(
    container: str, kernel: str | None, firmware: str, told: str
) -> None:
    image = SimpleNamespace(
        name="x",
        status="active",
        id="0f-2",
        size=None,
        container_format=container,
        kernel_id=kernel,
        properties={"hw_firmware_type": firmware} if firmware else {},
    )
    sdk = SimpleNamespace(image=SimpleNamespace(images=lambda: [image]))
    (row,) = importing.summary(sdk)
    assert row["boots"] == told
