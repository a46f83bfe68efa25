"""Images built by real programs, and booted.

Whole Debian images take many minutes each under emulation: `make nightly` builds them.

Only a Debian that boots shows that recipe, loader and cloud-init fit each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from bootkit import Machine, disk_tools, drive, firmware

from dozencloud.errors import Exit, Problem
from dozencloud.images.debian import Architecture, Built, Recipe, Suite, build, builder, disk, tools
from dozencloud.images.debian.packages import Apt, Archive, newest
from dozencloud.images.tiny import uefi

pytestmark = pytest.mark.functional

EPOCH = 1_700_000_000
IDENTITY = uuid.UUID("6f1b3f0a-5d0e-4b57-9d0c-0d4f4b6c2f11")

PASSWORD = "a-password-for-the-test"

# Disks


def make_tree(folder: Path, dates: Sequence[int]) -> Path:
    """A small root whose files were read and changed at other times than another's."""
    for number in range(60):
        path = folder / "etc" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * number * 100)
        os.utime(path, (dates[number % len(dates)], EPOCH))
    (folder / "loader").write_bytes(bytes(range(256)) * 400)
    (folder / "link").symlink_to("etc/file-1")
    for path in (folder / "loader", folder / "etc", folder):
        os.utime(path, (EPOCH, EPOCH))
    os.utime(folder / "link", (EPOCH, EPOCH), follow_symlinks=False)
    return folder


def make_disk(tree: Path, raw: Path) -> disk.Layout:
    plan = disk.layout(disk.root_size(disk.used(tree)))
    script = disk.partition_script(
        plan, uefi.LINUX_DATA, IDENTITY, uuid.UUID(int=1), uuid.UUID(int=2)
    )
    disk.make_gpt(raw, plan.size, script)
    files = {"EFI/BOOT/BOOTAA64.EFI": tree / "loader"}
    disk.make_esp(raw, plan.esp_start, plan.esp_size, 0x12345678, files, EPOCH)
    disk.make_root(raw, plan.root_start, plan.root_size, tree, IDENTITY, EPOCH)
    return plan


@disk_tools
def test_a_disk_from_a_tree_is_whole_and_the_same_twice(tmp_path: Path) -> None:
    first = make_tree(tmp_path / "first", [EPOCH])
    raw = tmp_path / "first.raw"
    plan = make_disk(first, raw)
    time.sleep(1.1)  # the time of change, in whole seconds, differs
    second = make_tree(tmp_path / "second", [EPOCH + 5, EPOCH - 99])
    make_disk(second, tmp_path / "second.raw")
    hashes = []
    for name in ("first", "second"):
        disk.compress(tmp_path / f"{name}.raw", tmp_path / f"{name}.qcow2")
        hashes.append(hashlib.sha256((tmp_path / f"{name}.qcow2").read_bytes()).hexdigest())
    assert hashes[0] == hashes[1]

    table = json.loads(tools.run(["sfdisk", "--json", raw], "the table"))["partitiontable"]
    assert [part["type"] for part in table["partitions"]] == [disk.ESP_TYPE, uefi.LINUX_DATA]
    tools.run(["sfdisk", "--verify", raw], "the table")

    part = tmp_path / "root.raw"
    with raw.open("rb") as source, part.open("wb") as out:
        source.seek(plan.root_start)
        out.write(source.read(plan.root_size))
    tools.run(["e2fsck", "-fn", part], "the check")
    cat = tools.run(["debugfs", "-R", "cat /etc/file-3", part], "the file")
    assert cat == (first / "etc/file-3").read_text()
    about = tools.run(["debugfs", "-R", "stat /etc/file-3", part], "the times")
    assert set(re.findall(r"time: (0x\w+:\w+)", about)) == {f"{EPOCH:#x}:00000000"}

    copy = tmp_path / "copy"
    where = f"{raw}@@{plan.esp_start}"
    tools.run(["mcopy", "-i", where, "::/EFI/BOOT/BOOTAA64.EFI", copy], "the copy")
    assert copy.read_bytes() == (first / "loader").read_bytes()


@disk_tools
def test_a_tree_that_does_not_fit_is_a_problem(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", [EPOCH])
    (tree / "big").write_bytes(os.urandom(40 * disk.MIB))
    with pytest.raises(Problem, match="mke2fs could not make the root file system"):
        disk.make_root(tmp_path / "raw", 0, 48 * disk.MIB, tree, IDENTITY, EPOCH)


@disk_tools
def test_tinys_uefi_disk_is_built_once(cache: Path) -> None:
    """It boots: tests/functional/compute/test_guests.py."""
    built = uefi.build(cache)
    made = built.disk.stat().st_mtime_ns
    assert uefi.build(cache) == built
    assert built.disk.stat().st_mtime_ns == made


# Packages


@pytest.mark.timeout(180)
def test_packages_that_were_fetched_still_count(tmp_path: Path) -> None:
    if not builder.KEYRING.exists():
        pytest.skip("needs debian-archive-keyring")
    archive = Archive(builder.MIRROR, builder.SECURITY, builder.KEYRING)
    apt = Apt(archive, Suite.TRIXIE, Architecture.ARM64, tmp_path)
    apt.update()
    before = apt.resolve(["netbase"])
    assert {"netbase", "dpkg", "libc6"} <= {package.name for package in before}
    netbase = [package for package in before if package.name == "netbase"]
    (path,) = apt.fetch(netbase)
    assert 1_500_000_000 < newest([path]) < time.time()
    assert apt.resolve(["netbase"]) == before

    path.write_bytes(b"!<arch>\n")
    with pytest.raises(Problem, match="checksum"):
        apt.fetch([replace(netbase[0], sha256="0" * 64)])


# Whole Debian images


def config_drive(folder: Path) -> Path:
    """Metadata as Nova writes it: a password for the user debian."""
    if tools.find("genisoimage") is None:
        pytest.skip("needs genisoimage")
    latest = folder / "config" / "openstack" / "latest"
    latest.mkdir(parents=True)
    about = {"uuid": str(IDENTITY), "hostname": "first.novalocal", "admin_pass": PASSWORD}
    (latest / "meta_data.json").write_text(json.dumps(about))
    user_data = f"#cloud-config\npassword: {PASSWORD}\nchpasswd: {{expire: false}}\n"
    (latest / "user_data").write_text(user_data)
    target = folder / "config.iso"
    subprocess.run(
        [
            *("genisoimage", "-quiet", "-o", target, "-ldots", "-allow-lowercase"),
            *("-allow-multidot", "-l", "-J", "-r", "-V", "config-2", folder / "config"),
        ],
        check=True,
        capture_output=True,
    )
    return target


def boot(built: Built, folder: Path) -> Machine:
    """Start an image on a disk that is larger than the image, with a config drive."""
    copy = folder / "disk.qcow2"
    if not copy.exists():
        shutil.copyfile(built.image, copy)
        tools.run(["qemu-img", "resize", copy, "4G"], "the larger disk")
        config_drive(folder)
    architecture = built.recipe.architecture
    how: tuple[str, ...]
    if built.kernel and built.initrd:
        how = ("-kernel", str(built.kernel), "-initrd", str(built.initrd))
        how += ("-append", built.command_line)
    else:
        how = firmware(architecture, folder)
    return Machine(
        architecture,
        *how,
        *drive(copy),
        *("-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=config"),
        *("-drive", f"if=none,id=config,format=raw,media=cdrom,file={folder / 'config.iso'}"),
    )


def log_in(machine: Machine) -> None:
    """Log in on the console, as soon as cloud-init has set the password; wait for its end."""
    for _ in range(30):
        # agetty asks the terminal for its size first, and drops what is typed meanwhile.
        machine.type("debian")
        if not machine.sees("Password: ", 15):
            continue
        machine.type(PASSWORD)
        machine.wait(r"debian@first:~\$ |Login incorrect[^$]*login: ", 120)
        if "debian@first" in machine.matched:
            break
    machine.run("stty -echo; PS1=; export TERM=dumb SYSTEMD_PAGER=cat")
    machine.run("cloud-init status --wait", 600)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("architecture", "purpose"),
    [("arm64", "vm"), ("arm64", "kernel"), ("armhf", "kernel"), ("armhf", "vm")],
)
def test_debian_boots_and_is_a_cloud_server(
    architecture: str, purpose: str, cache: Path, tmp_path: Path, machines: list[Machine]
) -> None:
    recipe = Recipe.parse("debian-13", architecture, purpose)
    built = build(recipe, cache, say=print)
    started = time.monotonic()
    assert build(recipe, cache) == built
    assert time.monotonic() - started < 60

    machine = boot(built, tmp_path)
    machines.append(machine)
    print("login after", round(machine.wait(r"first login: ", 400)), "s")
    log_in(machine)
    assert "running" in machine.run("systemctl is-system-running --wait; true", 120)
    size = machine.run("df --output=size -BM / | tail -n 1")
    assert int(size.strip().removesuffix("M")) > 3500  # it grew with the disk
    assert machine.run("systemctl is-active ssh systemd-networkd").split() == ["active"] * 2
    assert "UNINIT" not in machine.run("cat /etc/machine-id | sed 's/^$/UNINIT/'").upper()
    assert machine.run("sudo cat /etc/shadow | grep ^root:").startswith("root:*:")
    assert "ssh_host_ed25519_key" in machine.run("ls /etc/ssh")
    if purpose == "vm":
        # As at a kernel upgrade: update-grub writes grub.cfg anew, and the loader finds it.
        assert "done" in machine.run("sudo update-grub 2>&1", 120)
        machine.type("sudo systemctl reboot")
        machine.wait(r"Linux version", 180)
        machine.wait(r"first login: ", 300)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_container_root_is_the_same_twice(cache: Path, tmp_path: Path) -> None:
    recipe = Recipe.parse("debian-13", "armel", "container")
    first = build(recipe, cache, say=print)
    second = build(recipe, tmp_path, say=print)
    assert first.digest == second.digest
    sums = [hashlib.sha256(built.image.read_bytes()).hexdigest() for built in (first, second)]
    assert sums[0] == sums[1]
    names = tools.run(["tar", "--zstd", "-tf", first.image], "the list").splitlines()
    assert "./usr/bin/cloud-init" in names
    assert not [name for name in names if re.search(r"ssh_host_|/var/log/.*\.log|\.deb$", name)]


def test_what_is_missing_is_said_before_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in tools.programs(Recipe.parse("debian-13", "arm64", "vm").purpose):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")  # arch-test: cannot run it
        (folder / name).chmod(0o755)
    monkeypatch.setattr(tools, "PATH", str(folder))
    with pytest.raises(Problem, match="cannot run arm64 programs") as caught:
        build(Recipe.parse("debian-13", "arm64", "vm"), tmp_path / "cache")
    assert "qemu-user-static" in caught.value.mend
    assert caught.value.code is Exit.UNFIT
    assert not (tmp_path / "cache").exists()
