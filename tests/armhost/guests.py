"""The guests that the machine starts: the small images, with a probe that says what they are."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from disks import CACHE, INSIDE, MIRROR, cached

from dozencloud.images.debian import disk
from dozencloud.images.formats import cpio
from dozencloud.images.packages import apt, debs
from dozencloud.images.tiny import direct

COMMAND_LINE = "console=ttyAMA0 loglevel=6"
"""Few words, because each byte is a way through both machines; "quiet" would look like a hang."""
JOB = "armhost.job"
"""On the command line: the probe also does the work that is measured."""

INITTAB = b"""::sysinit:/etc/init.d/rcS
::once:/usr/lib/armhost/probe
::ctrlaltdel:/sbin/reboot
::shutdown:/etc/init.d/rcK
"""


@dataclass(frozen=True)
class Loader:
    """systemd-boot, where UEFI looks for it; the kernel's own stub starts from its entry."""

    debian: str
    file: str


LOADERS = {
    "aarch64": Loader("arm64", "BOOTAA64.EFI"),
    "armv7l": Loader("armhf", "BOOTARM.EFI"),
}


def build(suite: str, say: Callable[[str], None], cache: Path = CACHE) -> Path:
    """A folder with, for each architecture: ARCH/kernel, ARCH/initrd, ARCH/disk (UEFI)."""
    images = {arch: direct.build(arch, cache / "images", say=say) for arch in LOADERS}

    def fill(folder: Path, work: Path) -> None:
        for arch, image in images.items():
            say(f"making the guests for {arch}")
            (folder / arch).mkdir()
            shutil.copyfile(image.kernel, folder / arch / "kernel")
            with (folder / arch / "initrd").open("wb") as stream:
                stream.write(image.initrd.read_bytes())
                stream.write(_probe())
            _uefi_disk(arch, suite, folder / arch, work / arch)

    recipe = {
        "images": [image.digest for image in images.values()],
        "suite": suite,
        "probe": (INSIDE / "probe").read_text(),
        "inittab": INITTAB.decode(),
        "command line": [COMMAND_LINE, JOB],
    }
    return cached(cache, "guests", recipe, fill)


def _probe() -> bytes:
    """An archive that the kernel unpacks over the image's own."""
    out = io.BytesIO()
    cpio.write(
        out,
        [
            cpio.file("etc/inittab", INITTAB),
            cpio.file("usr/lib/armhost/probe", (INSIDE / "probe").read_bytes(), 0o755),
        ],
    )
    return out.getvalue()


def _uefi_disk(arch: str, suite: str, folder: Path, work: Path) -> None:
    loader = LOADERS[arch]
    (work / "apt").mkdir(parents=True)
    source = apt.Source(MIRROR, suite, direct.KEYRING)
    packages = debs.fetch(source, loader.debian, ["systemd-boot-efi"], work / "apt")
    debs.unpack(packages, work / "root")
    name = f"systemd-{loader.file.lower()}"
    entry, conf = work / "entry.conf", work / "loader.conf"
    entry.write_text(f"title tiny\nlinux /kernel\ninitrd /initrd\noptions {COMMAND_LINE}\n")
    conf.write_text("timeout 0\n")
    plan = disk.layout(0)
    raw = work / "disk.raw"
    identity = [uuid.uuid5(uuid.NAMESPACE_OID, f"{arch} {part}") for part in ("disk", "esp")]
    script = disk.partition_script(plan, "", identity[0], identity[1], identity[1])
    disk.make_gpt(raw, plan.size, script)
    files = {
        f"EFI/BOOT/{loader.file}": work / "root/usr/lib/systemd/boot/efi" / name,
        "loader/loader.conf": conf,
        "loader/entries/tiny.conf": entry,
        "kernel": folder / "kernel",
        "initrd": folder / "initrd",
    }
    disk.make_esp(raw, plan.esp_start, plan.esp_size, 1, files, 1)
    subprocess.run(
        ["qemu-img", "convert", "-O", "qcow2", str(raw), str(folder / "disk")], check=True
    )


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder on a real disk: /tmp may be memory."""
    return tempfile.TemporaryDirectory(prefix="armhost-", dir="/var/tmp")
