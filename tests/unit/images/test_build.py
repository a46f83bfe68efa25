"""Images from Debian's packages: what can be built, from what, and how it is laid out."""

from __future__ import annotations

import fcntl
import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from dozencloud.errors import Exit, Problem
from dozencloud.images.debian import (
    Architecture,
    Purpose,
    Recipe,
    Suite,
    builder,
    disk,
    files,
    root,
    tools,
)
from dozencloud.images.debian import packages as debian_packages
from dozencloud.images.packages import apt

VM = Recipe(Suite.TRIXIE, Architecture.ARM64, Purpose.VM)
KERNEL = replace(VM, purpose=Purpose.KERNEL)
CONTAINER = replace(VM, purpose=Purpose.CONTAINER)
BASH = debian_packages.Package(
    "bash", "5.2.37-2+b10", "arm64", "bash_5.2.37-2+b10_arm64.deb", "ab" * 32
)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("debian-13", "arm64", "vm"), "debian-trixie-arm64-vm"),
        (("debian-12", "armhf", "kernel"), "debian-bookworm-armhf-kernel"),
        (("trixie", "armel", "container"), "debian-trixie-armel-container"),
    ],
)
def test_a_recipe_from_words(words: tuple[str, str, str], name: str) -> None:
    assert Recipe.parse(*words).name == name


@pytest.mark.parametrize(
    ("words", "what", "mend"),
    [
        (("debian-11", "arm64", "vm"), "The distribution 'debian-11'", "debian-12, debian-13"),
        (("debian-13", "amd64", "vm"), "The architecture 'amd64'", "arm64, armhf, armel"),
        (("debian-13", "arm64", "disk"), "The purpose 'disk'", "vm, kernel, container"),
        (("debian-13", "armel", "vm"), "no armel kernel for a virtual machine", "--arch armhf"),
        (("debian-12", "armel", "kernel"), "no armel kernel", "--for container"),
    ],
)
def test_what_cannot_be_built_is_refused(words: tuple[str, str, str], what: str, mend: str) -> None:
    with pytest.raises(Problem) as caught:
        Recipe.parse(*words)
    assert what in caught.value.what
    assert mend in caught.value.mend
    assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("recipe", "has", "lacks"),
    [
        (VM, {"linux-image-cloud-arm64", "grub-efi-arm64"}, {"linux-image-arm64"}),
        (KERNEL, {"linux-image-arm64", "cloud-guest-utils"}, {"grub-efi-arm64"}),
        (
            replace(VM, architecture=Architecture.ARMHF),
            {"linux-image-armmp-lpae", "grub-efi-arm"},
            {"linux-image-armmp"},
        ),
        (CONTAINER, {"cloud-init", "openssh-server"}, {"initramfs-tools", "cloud-guest-utils"}),
    ],
)
def test_packages(recipe: Recipe, has: set[str], lacks: set[str]) -> None:
    assert has <= set(recipe.packages)
    assert not lacks & set(recipe.packages)
    assert recipe.packages == tuple(sorted(recipe.packages))


def test_files_agree_on_the_root() -> None:
    """fstab, loader and kernel command line name the file system that is made."""
    identity = f"{VM.identity('root')}"
    written = files.after(VM)
    for name in ("etc/fstab", "boot/grub/early.cfg", "boot/grub/grub.cfg"):
        assert identity in written[name]
    assert files.command_line(KERNEL).startswith(f"root=UUID={KERNEL.identity('root')} ")
    assert KERNEL.identity("root") != VM.identity("root")
    assert files.after(CONTAINER)["etc/fstab"] == ""
    assert "/boot/efi" not in files.fstab(KERNEL)


def test_the_serial_of_a_fat_is_written_as_linux_shows_it() -> None:
    serial = files.fat_serial(VM.identity("esp"))
    assert serial < 1 << 32
    assert f"UUID={serial >> 16:04X}-{serial & 0xFFFF:04X} /boot/efi vfat" in files.fstab(VM)


def test_the_command_of_mmdebstrap() -> None:
    words = root.command(VM, Path("/w"), Path("/apt/sources.list"), Path("/w/root.tar"))
    assert words.index("setpriv") < words.index("unshare") < words.index("mmdebstrap")
    assert "--architectures=arm64" in words
    assert words[-3:] == ["trixie", "/w/root.tar", "/apt/sources.list"]
    assert f"--include={','.join(VM.packages)}" in words


URIS = """\
'http://m/pool/b/bash_5.2.37-2%2bb10_arm64.deb' bash_5.2.37-2+b10_arm64.deb 1465136 SHA256:{0}
'http://m/pool/l/libcap2_2.75-10_arm64.deb' libcap2_1%3a2.75-10_arm64.deb 27 SHA256:{0}
'http://m/pool/n/netbase_6.5_all.deb' netbase_6.5_all.deb 12 SHA256:{0}
W: a warning
""".format("ab" * 32)


def test_what_apt_would_fetch() -> None:
    found = debian_packages.parse_uris(URIS)
    assert found[0] == BASH
    assert [(p.name, p.version, p.architecture) for p in found[1:]] == [
        ("libcap2", "1:2.75-10", "arm64"),
        ("netbase", "6.5", "all"),
    ]


def test_the_date_of_packages_is_that_of_the_newest(tmp_path: Path) -> None:
    for name, seconds in (("a", 1700000000), ("b", 999999999)):
        member = f"{'debian-binary':16}{seconds:<12}{0:<6}{0:<6}{'100644':8}{4:<10}`\n2.0\n"
        (tmp_path / name).write_text(f"!<arch>\n{member}")
    assert debian_packages.newest([tmp_path / "a", tmp_path / "b"]) == 1700000000


@pytest.mark.parametrize(
    ("file", "error"),
    [
        ("dists/x/Packages.xz", "File has unexpected size (3 != 4). Mirror sync in progress?"),
        ("dists/x/Packages.xz", "Hash Sum mismatch"),
        ("pool/main/c/curl/curl_8.deb", "404  Not Found [IP: 127.0.0.1 80]"),
    ],
)
def test_a_mirror_in_the_middle_of_an_update(file: str, error: str) -> None:
    output = f"E: Failed to fetch http://m/{file}  {error}"
    problem = apt.cause(output, apt.Source("http://m", "trixie", Path("/k")))
    assert isinstance(problem, apt.MirrorIsUpdated)
    assert problem.what.startswith(f"The mirror is being updated: http://m/{file} does not fit")


def test_a_damaged_package_is_no_update() -> None:
    output = "E: Failed to fetch http://m/pool/x.deb  Hash Sum mismatch"
    problem = apt.cause(output, apt.Source("http://m", "trixie", Path("/k")))
    assert not isinstance(problem, apt.MirrorIsUpdated)


def test_sources_are_signed_and_have_updates_and_security() -> None:
    archive = debian_packages.Archive("http://m/debian", "http://s/security", Path("/k.gpg"))
    assert archive.lines(Suite.TRIXIE).splitlines() == [
        "deb [signed-by=/k.gpg] http://m/debian trixie main",
        "deb [signed-by=/k.gpg] http://m/debian trixie-updates main",
        "deb [signed-by=/k.gpg] http://s/security trixie-security main",
    ]


def test_without_keys_nothing_is_fetched(tmp_path: Path) -> None:
    archive = debian_packages.Archive("http://m", "http://s", tmp_path / "none.gpg")
    with pytest.raises(Problem, match="signing keys") as caught:
        debian_packages.Apt(archive, Suite.TRIXIE, Architecture.ARM64, tmp_path)
    assert "debian-archive-keyring" in caught.value.mend


@pytest.mark.parametrize(
    "other",
    [
        builder.key(KERNEL, [BASH]),
        builder.key(replace(VM, suite=Suite.BOOKWORM), [BASH]),
        builder.key(VM, [replace(BASH, version="5.3")]),
        builder.key(VM, [replace(BASH, sha256="cd" * 32)]),
        builder.key(VM, []),
    ],
)
def test_the_key_changes_with_all_that_goes_in(other: str) -> None:
    assert builder.key(VM, [BASH]) != other


@pytest.mark.parametrize("megabytes", [0, 1, 300, 900, 5000])
def test_layout(megabytes: int) -> None:
    size = disk.root_size(megabytes * disk.MIB)
    assert size >= (megabytes + 256) * disk.MIB
    plan = disk.layout(size)
    edges = (plan.esp_start, plan.esp_start + plan.esp_size, plan.root_start + plan.root_size)
    assert all(edge % disk.MIB == 0 for edge in edges)
    assert edges[1] == plan.root_start
    assert plan.size - edges[2] >= 33 * disk.SECTOR  # GPT's second copy
    assert plan.esp_size // disk.SECTOR > 65525 + 2 * 520  # FAT32, with both tables


def test_the_partition_script() -> None:
    one, two, three = (uuid.UUID(int=n) for n in (1, 2, 3))
    lines = disk.partition_script(disk.layout(512 * disk.MIB), "TYPE", one, two, three)
    assert lines.splitlines() == [
        "label: gpt",
        f"label-id: {one}",
        "unit: sectors",
        f'start=2048, size=131072, type={disk.ESP_TYPE}, uuid={two}, name="esp"',
        f'start=133120, size=1048576, type=TYPE, uuid={three}, name="root"',
    ]


def test_missing_programs_are_named_with_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "PATH", str(tmp_path))
    with pytest.raises(Problem) as caught:
        tools.require(VM)
    assert caught.value.code is Exit.UNFIT
    install = caught.value.mend.partition("apt-get install ")[2].split()
    assert {"mmdebstrap", "mtools", "dosfstools", "fdisk", "qemu-user-static"} <= set(install)
    with pytest.raises(Problem) as caught:
        tools.require(CONTAINER)
    assert "mtools" not in caught.value.mend


@pytest.mark.parametrize("said", ["cp: x: No space left on device", "Disk full"])
def test_a_full_disk_is_told_from_other_failures(said: str) -> None:
    assert isinstance(tools.failure("mmd", "the disk", said), OSError)
    assert isinstance(tools.failure("mmd", "the disk", "else"), Problem)


def finished(folder: Path, recipe: Recipe) -> None:
    folder.mkdir()
    ending = "tar.zst" if recipe.purpose is Purpose.CONTAINER else "qcow2"
    (folder / f"{recipe.name}.{ending}").write_bytes(b"image")
    if recipe.purpose is Purpose.KERNEL:
        (folder / "vmlinuz").write_bytes(b"kernel")
        (folder / "initrd.img").write_bytes(b"initrd")
    builder._finish(folder, recipe, "digest", [BASH])


@pytest.mark.parametrize("recipe", [VM, KERNEL, CONTAINER])
def test_a_finished_image_is_found_again(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "image"
    finished(folder, recipe)
    found = builder.load(folder)
    assert found is not None
    assert found.recipe == recipe
    assert found.image.read_bytes() == b"image"
    assert (found.kernel is not None) == (recipe.purpose is Purpose.KERNEL)
    assert bool(found.command_line) == (recipe.purpose is Purpose.KERNEL)
    about = json.loads(found.manifest.read_text())
    assert about["packages"] == {"bash:arm64": BASH.version}
    assert len(about["files"][found.image.name]["sha256"]) == 64

    found.image.write_bytes(b"imag")
    assert builder.load(folder) is None
    found.manifest.write_text("{")
    assert builder.load(folder) is None
    assert builder.load(tmp_path / "none") is None


def test_one_build_at_a_time(tmp_path: Path) -> None:
    said: list[str] = []
    with (
        builder._alone(tmp_path, VM, said.append),
        (tmp_path / ".lock-trixie-arm64").open() as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert said == []
