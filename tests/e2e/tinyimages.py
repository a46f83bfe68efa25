"""Images of every kind, made of tiny's parts, as other people's images are."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from dozencloud.images import apt, debs, tiny
from dozencloud.images.debian import disk
from dozencloud.images.tiny_uefi import LINUX_DATA


@dataclass(frozen=True)
class Made:
    """Files to make images from: tiny's, of both widths."""

    folder: Path
    arm64: tiny.TinyImage
    armhf: tiny.TinyImage
    uefi: Path


def by_kernel(made: Made, image: tiny.TinyImage) -> Path:
    """An ext4 root file system with a kernel in it and no loader, as board images have."""
    target = made.folder / f"kernel-{image.architecture}.img"
    if target.exists():
        return target
    top = made.folder / f"root-{image.architecture}"
    (top / "boot").mkdir(parents=True)
    (top / "etc").mkdir()
    shutil.copy(image.kernel, top / "boot/vmlinuz-6.12")
    shutil.copy(image.initrd, top / "boot/initrd.img-6.12")
    (top / "etc/os-release").write_text("ID=tiny\nVERSION_ID=1\n")
    (top / "etc/fstab").write_text("LABEL=tiny-state / ext4 defaults 0 1\n")
    make = ["mke2fs", "-q", "-t", "ext4", "-L", "tiny-state", "-d", str(top), str(target), "120M"]
    subprocess.run(make, check=True, env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    return target


def arm64_uefi(made: Made) -> Path:
    return made.uefi


def arm64_kernel(made: Made) -> Path:
    return by_kernel(made, made.arm64)


def armhf_kernel(made: Made) -> Path:
    return by_kernel(made, made.armhf)


def armhf_uefi(made: Made) -> Path:
    """systemd-boot, kernel and initrd in an EFI system partition, all of 32 bits; tiny's state."""
    target = made.folder / "armhf-uefi.img"
    if target.exists():
        return target
    work = made.folder / "armhf-uefi"
    work.mkdir()
    source = apt.Source("http://deb.debian.org/debian", "trixie", tiny.KEYRING)
    debs.unpack(debs.fetch(source, "armhf", ["systemd-boot-efi"], work / "apt"), work / "root")
    entry, loader, state = work / "tiny.conf", work / "loader.conf", work / "state.img"
    entry.write_text(
        f"title tiny\nlinux /vmlinuz\ninitrd /initrd\noptions {made.armhf.command_line}\n"
    )
    loader.write_text("default tiny.conf\ntimeout 0\n")
    files = {
        "EFI/BOOT/BOOTARM.EFI": work / "root/usr/lib/systemd/boot/efi/systemd-bootarm.efi",
        "vmlinuz": made.armhf.kernel,
        "initrd": made.armhf.initrd,
        "loader/entries/tiny.conf": entry,
        "loader/loader.conf": loader,
    }
    plan = disk.layout(tiny.STATE_MIB * disk.MIB)
    names = (uuid.uuid4() for _ in range(3))
    disk.make_gpt(target, plan.size, disk.partition_script(plan, LINUX_DATA, *names))
    disk.make_esp(target, plan.esp_start, plan.esp_size, 0x12345678, files, 1 << 30)
    convert = ["qemu-img", "convert", "-O", "raw", str(made.armhf.disk), str(state)]
    subprocess.run(convert, check=True)
    with state.open("rb") as content, target.open("r+b") as out:
        out.seek(plan.root_start)
        shutil.copyfileobj(content, out)
    return target
