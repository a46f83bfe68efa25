"""Images of every kind, made of tiny's parts, as other people's images are."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

from dozencloud.images.debian import disk
from dozencloud.images.inspection.confine import extract_file
from dozencloud.images.packages import apt, debs
from dozencloud.images.tiny import direct
from dozencloud.images.tiny.uefi import LINUX_DATA


@dataclass(frozen=True)
class Made:
    """Files to make images from: tiny's, of both widths."""

    folder: Path
    arm64: direct.TinyImage
    armhf: direct.TinyImage
    uefi: Path


def by_kernel(made: Made, image: direct.TinyImage) -> Path:
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


def arm64_uefi_4k(made: Made) -> Path:
    """The same with sectors of 4096 bytes, as systemd-repart makes disks; without tiny's state."""
    target, esp = made.folder / "arm64-4k.img", made.folder / "esp-4k.img"
    if target.exists():
        return target
    program = made.folder / "uki.efi"
    extract_file(made.uefi, 1, "EFI/BOOT/BOOTAA64.EFI", program)
    size = (program.stat().st_size >> 20) + 8 << 20
    with esp.open("wb") as file:
        file.truncate(size)
    environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"}
    for command in (
        ["mkfs.vfat", "-S", "4096", str(esp)],
        ["mmd", "-i", str(esp), "::EFI", "::EFI/BOOT"],
        ["mcopy", "-i", str(esp), str(program), "::EFI/BOOT/BOOTAA64.EFI"],
    ):
        subprocess.run(command, check=True, env=environment)
    target.write_bytes(gpt_4k(esp.read_bytes()))
    return target


def gpt_4k(esp: bytes) -> bytes:
    """A disk with that partition. sfdisk makes none for files with such sectors before 2.41."""
    sector, mib = 4096, 1 << 20
    total = (len(esp) + 2 * mib) // sector
    kind, mine = uuid.UUID(disk.ESP_TYPE).bytes_le, uuid.uuid4().bytes_le
    first = mib // sector
    entry = struct.pack("<16s16sQQQ72s", kind, mine, first, first + len(esp) // sector - 1, 0, b"")
    entries = entry.ljust(128 * 128, b"\0")

    def header(here: int, other: int, where: int) -> bytes:
        def pack(crc: int) -> bytes:
            start = struct.pack("<8sIIII", b"EFI PART", 0x10000, 92, crc, 0)
            middle = struct.pack("<QQQQ16sQ", here, other, 6, total - 6, mine, where)
            return start + middle + struct.pack("<III", 128, 128, zlib.crc32(entries))

        return pack(zlib.crc32(pack(0)))

    out = bytearray(total * sector)
    out[446:462] = struct.pack("<BBBBBBBBII", 0, 0, 2, 0, 0xEE, 255, 255, 255, 1, total - 1)
    out[510:512] = b"\x55\xaa"
    for at, data in (
        (sector, header(1, total - 1, 2)),
        (2 * sector, entries),
        (mib, esp),
        ((total - 5) * sector, entries),
        ((total - 1) * sector, header(total - 1, 1, total - 5)),
    ):
        out[at : at + len(data)] = data
    return bytes(out)


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
    source = apt.Source("http://deb.debian.org/debian", "trixie", direct.KEYRING)
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
    plan = disk.layout(direct.STATE_MIB * disk.MIB)
    names = (uuid.uuid4() for _ in range(3))
    disk.make_gpt(target, plan.size, disk.partition_script(plan, LINUX_DATA, *names))
    disk.make_esp(target, plan.esp_start, plan.esp_size, 0x12345678, files, 1 << 30)
    convert = ["qemu-img", "convert", "-O", "raw", str(made.armhf.disk), str(state)]
    subprocess.run(convert, check=True)
    with state.open("rb") as content, target.open("r+b") as out:
        out.seek(plan.root_start)
        shutil.copyfileobj(content, out)
    return target
