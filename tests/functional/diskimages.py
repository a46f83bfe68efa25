"""Small images made with the real tools, once per run, for the tests of image inspection."""

from __future__ import annotations

import atexit
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

OS_RELEASE = b'ID=debian\nVERSION_ID="13"\n'
KERNEL = bytes(range(256)) * 300
"""75 KiB: more than a block of any of the file systems, and compressible."""
FILES = {
    "etc/os-release": OS_RELEASE,
    **{f"etc/file-of-{n}": bytes(range(48, 123))[:n] for n in (0, 1, 59, 60, 61, 75)},
    "boot/vmlinuz-6.1": KERNEL,
    **{f"usr/bin/program-{n}": b"%d\n" % n for n in range(150)},
}
LINKS = {
    "etc/release": "os-release",
    "vmlinuz": "/boot/vmlinuz-6.1",
    "etc/shadow": "../../../../../../etc/shadow",
    "etc/a": "b",
    "etc/b": "a",
}
GPT_ROOT = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
GPT_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
MIB = 1 << 20
SHORT_NAMES = ("kernel8.img", "vmlinuz", "INITRD", "lower.TXT", "UPPER.txt")
"""Names that mtools writes as short ones, their case by two flags."""


def need(*tools: str) -> None:
    """Skip the test unless the tools are there."""
    missing = [tool for tool in tools if not shutil.which(tool, path=_PATH)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def run(*command: str | Path, text: str = "") -> None:
    """Run a tool that makes something."""
    subprocess.run(
        [str(each) for each in command],
        input=text.encode(),
        check=True,
        capture_output=True,
        env={"PATH": _PATH, "MTOOLS_SKIP_CHECK": "1"},
        timeout=60,
    )


@cache
def folder() -> Path:
    """Where the images of this run are."""
    path = Path(tempfile.mkdtemp(prefix="diskimages-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def root() -> Path:
    """A folder with FILES and LINKS."""
    top = folder() / "root"
    for path, content in FILES.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(content)
    for path, target in LINKS.items():
        (top / path).symlink_to(target)
    return top


def blank(name: str, size: int) -> Path:
    """A file of zeros."""
    path = folder() / name
    path.write_bytes(b"")
    os.truncate(path, size)
    return path


@cache
def ext(kind: str) -> Path:
    """ext2, ext3 or ext4."""
    need("mke2fs")
    path = blank(f"{kind}.img", 4 * MIB)
    run("mke2fs", "-q", "-t", kind, "-L", "label", "-d", root(), path)
    return path


@cache
def fat(bits: int) -> Path:
    """An EFI system partition."""
    need("mkfs.vfat", "mcopy", "mmd")
    path = blank(f"fat{bits}.img", {12: 1, 16: 16, 32: 36}[bits] * MIB)
    sector = ("-s", "1") if bits == 32 else ()
    run("mkfs.vfat", "-F", str(bits), *sector, "-n", "LABEL", "-i", "1234ABCD", path)
    run("mmd", "-i", path, "::EFI", "::EFI/BOOT")
    run("mcopy", "-i", path, root() / "boot/vmlinuz-6.1", "::EFI/BOOT/BOOTAA64.EFI")
    run("mcopy", "-i", path, root() / "etc/os-release", "::A long name of a file.txt")
    for name in SHORT_NAMES:
        run("mcopy", "-i", path, root() / "etc/os-release", f"::{name}")
    return path


@cache
def inline(inode: int) -> Path:
    """ext4 that keeps small files and folders in their inodes of so many bytes."""
    need("mke2fs")
    path = blank(f"inline{inode}.img", 4 * MIB)
    run("mke2fs", "-q", "-t", "ext4", "-O", "inline_data", "-I", str(inode), "-d", root(), path)
    return path


@cache
def xfs() -> Path:
    """XFS, filled by a prototype file."""
    need("mkfs.xfs")
    lines = ["/dev/null", "0 0", "d--755 0 0"]
    for top in ("boot", "etc", "usr"):
        lines += [f"{top} d--755 0 0", *(["bin d--755 0 0"] if top == "usr" else [])]
        for path in FILES:
            if path.startswith(f"{top}/"):
                lines.append(f"{path.rpartition('/')[2]} ---644 0 0 {root() / path}")
        lines += ["$"] if top == "usr" else []
        for path, target in LINKS.items():
            if path.startswith(f"{top}/"):
                lines.append(f"{path.rpartition('/')[2]} l--777 0 0 {target}")
        lines.append("$")
    lines += ["vmlinuz l--777 0 0 /boot/vmlinuz-6.1", "$"]
    prototype = folder() / "prototype"
    prototype.write_text("\n".join(lines) + "\n")
    path = blank("xfs.img", 300 * MIB)
    run("mkfs.xfs", "-q", "-L", "label", "-p", prototype, path)
    return path


@cache
def btrfs() -> Path:
    """btrfs without compression."""
    need("mkfs.btrfs")
    path = blank("btrfs.img", 128 * MIB)
    run("mkfs.btrfs", "-q", "-L", "label", "-r", root(), path)
    return path


@cache
def squashfs(compression: str) -> Path:
    """squashfs 4."""
    need("mksquashfs")
    path = folder() / f"squashfs-{compression}.img"
    run("mksquashfs", root(), path, "-comp", compression, "-quiet", "-no-progress", "-noappend")
    return path


@cache
def disk() -> Path:
    """A disk of 48 MiB: GPT, an EFI system partition, a root."""
    need("sfdisk")
    path = blank("disk.raw", 48 * MIB)
    esp = f'start=2048, size=32768, type={GPT_ESP}, name="EFI"'
    run("sfdisk", "-q", path, text=f"label: gpt\n{esp}\nsize=8192, type={GPT_ROOT}, name=root\n")
    place(path, fat(16), 1 * MIB)
    place(path, ext("ext4"), 17 * MIB)
    return path


def place(target: Path, source: Path, offset: int) -> None:
    """Copy one image into another."""
    with target.open("r+b") as out:
        out.seek(offset)
        out.write(source.read_bytes())


@cache
def converted(kind: str, *options: str) -> Path:
    """The disk in another format."""
    if kind == "raw":
        return disk()
    need("qemu-img")
    path = folder() / "-".join(["disk", *(o.strip("-").replace("=", "-") for o in options)])
    path = path.with_name(f"{path.name}.{kind}")
    run("qemu-img", "convert", "-f", "raw", disk(), "-O", kind, *options, path)
    return path


class Patched(io.RawIOBase):
    """A file with other bytes in some places, cut off after `size`."""

    def __init__(self, path: Path, patches: Iterable[tuple[int, bytes]], size: int) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._patches = sorted(patches)
        self._size = size
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        wanted = left if size < 0 else min(size, left)
        data = bytearray(os.pread(self._file.fileno(), wanted, self._at))
        for offset, change in self._patches:
            for n, byte in enumerate(change):
                if 0 <= offset + n - self._at < len(data):
                    data[offset + n - self._at] = byte
        self._at += len(data)
        return bytes(data)

    def close(self) -> None:
        self._file.close()
        super().close()


@cache
def filled(path: Path) -> tuple[int, ...]:
    """Offsets of the sectors that are not zero, where damage does most harm."""
    found = []
    with path.open("rb") as file:
        at = 0
        size = path.stat().st_size
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            for offset in range(at, hole, 512):
                sector = os.pread(file.fileno(), 512, offset)
                if any(sector) and sector not in KERNEL * 2:
                    found.append(offset)
            at = hole
    return tuple(found)


@cache
def tar(compression: str) -> Path:
    """The root as a tar; compression: ending of the file, or empty."""
    need("tar", *{"xz": ["xz"], "gz": ["gzip"]}.get(compression, []))
    path = folder() / ".".join(filter(None, ("root.tar", compression)))
    run("tar", "-C", root(), "-caf", path, ".")
    return path
