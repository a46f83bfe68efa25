"""The image `tiny` as a disk that boots by UEFI: for clouds and hosts that load no kernel.

The disk has two partitions, the EFI system partition with one file, a unified kernel image, and
tiny's state. Only for aarch64: the 32-bit stub has no room for a kernel's sections.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dozencloud.images.debian import disk, tools
from dozencloud.images.debian.recipe import BOOTS, Architecture
from dozencloud.images.formats import uki
from dozencloud.images.packages import apt, debs
from dozencloud.images.tiny import direct

VERSION = 1
"""Raise it when this module makes something else from the same tiny image."""

STUB_PACKAGE = "systemd-boot-efi"
STUB = "usr/lib/systemd/boot/efi/linuxaa64.efi.stub"
PARTS = ("disk", "esp", "state")
LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
"""GPT type of a partition that is no root."""

EPOCH = 1
"""Seconds since 1970: the time of all files. FAT knows no time before 1980 and takes that."""


@dataclass(frozen=True)
class TinyDisk:
    """A finished disk. digest: changes with tiny's."""

    disk: Path
    digest: str


def build(
    cache: Path,
    *,
    mirror: str = "http://deb.debian.org/debian",
    suite: str = "trixie",
    keyring: Path = direct.KEYRING,
    say: Callable[[str], None] = lambda _line: None,
) -> TinyDisk:
    """The disk, from the cache if it was built before. tiny itself is built first."""
    cache = cache.absolute()
    image = direct.build("aarch64", cache, mirror=mirror, suite=suite, keyring=keyring, say=say)
    digest = hashlib.sha256(f"{VERSION} {image.digest}".encode()).hexdigest()
    target = cache / f"tiny-uefi-{digest[:16]}.qcow2"
    with direct.alone(cache):
        if not target.exists():
            with tempfile.TemporaryDirectory(prefix=".build-uefi-", dir=cache) as name:
                work = Path(name)
                say(f"fetching systemd's EFI stub from Debian {suite}")
                stub = _stub(apt.Source(mirror, suite, keyring), work, say)
                say("making the UEFI disk")
                out = _disk(image, stub, digest, work)
                with out.open("rb") as stream:
                    os.fsync(stream.fileno())
                out.rename(target)
    return TinyDisk(target, digest)


def _stub(source: apt.Source, work: Path, say: Callable[[str], None]) -> bytes:
    (work / "apt").mkdir()
    packages = debs.fetch(source, "arm64", [STUB_PACKAGE], work / "apt", say=say)
    debs.unpack(packages, work / "root")
    return (work / "root" / STUB).read_bytes()


def _disk(image: direct.TinyImage, stub: bytes, digest: str, work: Path) -> Path:
    program = work / "uki.efi"
    program.write_bytes(
        uki.build(
            stub,
            {
                ".osrel": b"ID=tiny\nNAME=tiny\nVERSION_ID=1\n",
                ".cmdline": image.command_line.encode(),
                ".uname": image.kernel_release.encode(),
                ".initrd": image.initrd.read_bytes(),
                ".linux": image.kernel.read_bytes(),
            },
        )
    )
    boot = BOOTS[Architecture.ARM64]
    plan = disk.layout(direct.STATE_MIB * disk.MIB)
    identity = {part: uuid.uuid5(uuid.NAMESPACE_OID, f"{digest} {part}") for part in PARTS}
    raw = work / "disk.raw"
    disk.make_gpt(
        raw,
        plan.size,
        disk.partition_script(
            plan, LINUX_DATA, identity["disk"], identity["esp"], identity["state"]
        ),
    )
    serial = identity["esp"].int & 0xFFFF_FFFF
    files = {f"EFI/BOOT/{boot.loader}": program}
    disk.make_esp(raw, plan.esp_start, plan.esp_size, serial, files, EPOCH)
    state = work / "state.raw"
    tools.run(
        ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image.disk, state], "the state disk"
    )
    with state.open("rb") as source, raw.open("r+b") as out:
        out.seek(plan.root_start)
        shutil.copyfileobj(source, out)
    target = work / "disk.qcow2"
    disk.compress(raw, target)
    return target
