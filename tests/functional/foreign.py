"""Kernels of other processors with a shell: Debian's own, and busybox as the whole system."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from novakit import Disks

from dozencloud.images.formats import cpio
from dozencloud.images.packages import apt, debs
from dozencloud.images.tiny import direct

INIT = b"""#!/usr/bin/busybox sh
/usr/bin/busybox mount -t proc proc /proc
/usr/bin/busybox echo "ready on $(/usr/bin/busybox uname -m)"
exec /usr/bin/busybox sh
"""


@dataclass(frozen=True)
class Port:
    """How Debian calls it, its last suite with that port, its kernel, and QEMU's machine."""

    debian: str
    suite: str
    kernel: str
    machine: str


PORTS = {
    "mipsel": Port("mipsel", "bookworm", "linux-image-4kc-malta", "malta"),
    "ppc64le": Port("ppc64el", "trixie", "linux-image-powerpc64le", "pseries"),
    "s390x": Port("s390x", "trixie", "linux-image-s390x", "s390-ccw-virtio"),
}


def system(architecture: str, cache: Path) -> Disks:
    """Kernel and initrd, from the cache if they were fetched before."""
    folder = cache / f"foreign-{architecture}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            made = _fetch(PORTS[architecture], Path(work))
            made.rename(folder)
    return Disks(kernel=folder / "kernel", initrd=folder / "initrd")


def _fetch(port: Port, work: Path) -> Path:
    source = apt.Source("http://deb.debian.org/debian", port.suite, direct.KEYRING)
    (work / "apt").mkdir()
    wanted = (port.kernel, "busybox-static")
    packages = debs.fetch(source, port.debian, wanted, work / "apt", without=direct.NOT_FETCHED)
    debs.unpack(packages, work / "root")
    out = work / "out"
    out.mkdir()
    (kernel,) = (work / "root/boot").glob("vmlinu*")
    shutil.copyfile(kernel, out / "kernel")
    with (out / "initrd").open("wb") as stream:
        cpio.write(
            stream,
            [
                cpio.file("init", INIT, 0o755),
                cpio.file("usr/bin/busybox", (work / "root/usr/bin/busybox").read_bytes(), 0o755),
                cpio.directory("proc"),
                cpio.character_device("dev/console", 5, 1),
            ],
        )
    return out
