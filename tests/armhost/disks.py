"""Makes the disks of an emulated Debian machine for ARM without running a foreign program.

Packages come from a Debian mirror and PyPI, checked by apt's signatures and the hashes of uv.lock.
What is made stays in a cache: a system disk per Debian release, a Python disk per lock file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from dozencloud.errors import Problem
from dozencloud.images.formats import cpio, kmod
from dozencloud.images.packages import apt, debs
from dozencloud.images.tiny import direct

CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).parent / "inside"
CACHE = Path("/var/cache/dozencloud-armhost")
MIRROR = "http://deb.debian.org/debian"
VERSION = 2
"""Raise it when this module makes another disk from the same packages."""

PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
"""Debian release: its Python."""

PACKAGES = (
    "busybox-static",
    "ipxe-qemu",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "python3",
    "python3-libvirt",
    "qemu-efi-aarch64",
    "qemu-efi-arm",
    "qemu-system-arm",
    "qemu-utils",
)
MORE_PACKAGES = {"trixie": ("libvirt-daemon-log",)}
NOT_FETCHED = (
    # for installing a kernel
    "initramfs-tools",
    "linux-base",
    # of systemd, which this machine does without
    "dbus",
    "init-system-helpers",
    "systemd",
    "systemd-sysv",
)
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng"),
    "crc32c_generic",  # ext4 asks for it by alias, which `depends=` does not say
    "ext4",
)

CONTROL_PLANE = (
    *("neutron", "keystone", "glance", "openstack-placement", "python-openstackclient"),
    *("supervisor", "cheroot", "pymysql", "python-memcached", "click", "rich"),
    "ovs",  # has no wheel; os-vif asks for it and loads it only where it plugs in a port
)
"""What a compute node's driver does without."""

ACCOUNTS = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "libvirt-qemu:x:64055:994:QEMU:/var/lib/libvirt:/usr/sbin/nologin\n"
    ),
    "etc/group": "root:x:0:\ntty:x:5:\nkvm:x:994:\nlibvirt-qemu:x:64055:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost armhost\n",
    "etc/hostname": "armhost\n",
}


FOLDERS = (
    *("dev", "proc", "sys", "run", "tmp", "work", "opt/dozencloud", "root"),
    *("var/tmp", "var/log/libvirt", "var/lib/libvirt", "var/cache/libvirt"),
)


@dataclass(frozen=True)
class Disks:
    """What the machine starts from. What it writes to system and python is gone with it."""

    kernel: Path
    initramfs: Path
    system: Path
    python: Path
    python_version: str

    @classmethod
    def of(cls, system: Path, python: Path, suite: str) -> Self:
        """From the folder that `system()` made."""
        return cls(
            kernel=system / "vmlinuz",
            initramfs=system / "initramfs.cpio",
            system=system / "system.img",
            python=python,
            python_version=PYTHONS[suite],
        )


def default_suite() -> str:
    """The Debian release whose Python is ours: only then can its bytecode be made here."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    return next((suite for suite, python in PYTHONS.items() if python == ours), "bookworm")


@dataclass(frozen=True)
class System:
    """A system disk: the packages unpacked onto it, and what is done to it then.

    architecture: the kernel's name of it, as tiny.PORTS has it; its kernel is always there.
    finish: called with the root, the kernel's release and the packages' files.
    without: packages that are not fetched, nor what only they need.
    known: what the disk depends on besides; spare_mib: its free room.
    """

    name: str
    packages: tuple[str, ...]
    finish: Callable[[Path, str, Sequence[Path]], None]
    architecture: str = "aarch64"
    without: tuple[str, ...] = ()
    known: Mapping[str, object] = field(default_factory=dict)
    spare_mib: int = 1024


def build(suite: str, uv: str, say: Callable[[str], None], cache: Path = CACHE) -> Disks:
    """All disks that do not change from run to run, from the cache where they are there."""
    kind = System(
        "system",
        (*PACKAGES, *MORE_PACKAGES.get(suite, ())),
        _finish,
        without=NOT_FETCHED,
        known={"accounts": ACCOUNTS},
    )
    folder = system(kind, suite, cache, say)
    python = _python(PYTHONS[suite], uv, cache, say)
    return Disks.of(folder, python / "python.img", suite)


def disk(target: Path, tree: Path, *, spare_mib: int) -> Path:
    """An ext4 file system with a copy of the tree and some room."""
    used = sum(
        -(-path.lstat().st_size // 4096) + 1 for path in tree.rglob("*") if not path.is_dir()
    )
    inodes = sum(1 for _ in tree.rglob("*")) + max(4096, 24 * spare_mib)
    size = used * 4096 * 21 // 20 + inodes * 1024 + (spare_mib << 20)
    with target.open("wb") as stream:
        stream.truncate(size)
    command = [
        *("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-I", "256"),
        *("-N", str(inodes), "-J", "size=4"),
        *("-E", "root_owner=0:0,lazy_itable_init=1", "-d", str(tree), str(target)),
    ]
    # sbin is not on every user's path; mke2fs lives there.
    run(command, "a disk", {"PATH": os.environ.get("PATH", "/usr/bin") + ":/usr/sbin:/sbin"})
    return target


def compile_bytecode(tree: Path, version: str) -> None:
    """Compile here, in seconds, what would take minutes in the machine."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        command = [sys.executable, "-m", "compileall", "-qq", "-j0"]
        # Some packages have templates that look like Python and are none: no reason to stop.
        subprocess.run([*command, "--invalidation-mode", "unchecked-hash", str(tree)], check=False)


def cached(
    cache: Path, name: str, recipe: Mapping[str, object], fill: Callable[[Path, Path], None]
) -> Path:
    """A folder that appears in one step, filled by fill(folder, place for what is in between)."""
    text = json.dumps({"version": VERSION, **recipe}, sort_keys=True)
    final = cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as work:
                made = Path(work) / "made"
                made.mkdir()
                fill(made, Path(work))
                made.rename(final)
    return final


def system(kind: System, suite: str, cache: Path, say: Callable[[str], None]) -> Path:
    """A folder with a kernel, its initramfs and the system disk."""
    init = (INSIDE / "initramfs-init").read_bytes()
    port = direct.PORTS[kind.architecture]
    packages = (port.kernel_package, *kind.packages)

    def fill(folder: Path, work: Path) -> None:
        about = f"Debian {suite} for {port.debian}"
        say(f"fetching {len(packages)} packages of {about}, and what they need")
        (work / "apt").mkdir()
        source = apt.Source(MIRROR, suite, direct.KEYRING)
        files = debs.fetch_exactly(
            source, port.debian, packages, work / "apt", without=kind.without
        )
        say(f"unpacking {len(files)} packages")
        root = work / "root"
        debs.unpack(files, root)
        (kernel,) = root.glob("boot/vmlinuz-*")
        release = kernel.name.removeprefix("vmlinuz-")
        with (folder / "initramfs.cpio").open("wb") as stream:
            cpio.write(stream, _initramfs(root, release, init))
        kernel.rename(folder / "vmlinuz")
        for name in ("usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / name)
        kind.finish(root, release, files)
        shutil.rmtree(work / "apt")
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
        say("making the system disk")
        compile_bytecode(root / "usr/lib", PYTHONS[suite])
        disk(folder / "system.img", root, spare_mib=kind.spare_mib)

    recipe = {
        "suite": suite,
        "architecture": port.debian,
        "packages": packages,
        "without": kind.without,
        "modules": MODULES,
        **kind.known,
        "init": init.decode(),
    }
    cache.mkdir(parents=True, exist_ok=True)
    return cached(cache, f"{kind.name}-{port.debian}-{suite}", recipe, fill)


def _finish(root: Path, release: str, files: Sequence[Path]) -> None:
    for name in ("boot", "usr/lib/modules"):
        shutil.rmtree(root / name)
    for name, text in ACCOUNTS.items():
        (root / name).write_text(text)


def _initramfs(root: Path, release: str, init: bytes) -> list[cpio.Entry]:
    modules = kmod.closure(root / "usr/lib/modules" / release, MODULES)
    return [
        cpio.file("init", init, 0o755),
        cpio.file("bin/busybox", (root / "usr/bin/busybox").read_bytes(), 0o755),
        cpio.character_device("dev/console", 5, 1),
        cpio.directory("proc"),
        cpio.directory("root"),
        cpio.file("modules/order", "".join(f"{each.name}\n" for each in modules).encode()),
        *(cpio.file(f"modules/{each.name}.ko", each.data) for each in modules),
    ]


def _python(version: str, uv: str, cache: Path, say: Callable[[str], None]) -> Path:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [
        line for line in project["dependencies"] if line.partition("==")[0] not in CONTROL_PLANE
    ]
    lock = (CHECKOUT / "uv.lock").read_bytes()

    def fill(folder: Path, work: Path) -> None:
        say(f"fetching Nova and its libraries for arm64 and Python {version}")
        pins, left_out = work / "pins.txt", work / "left-out.txt"
        export = [uv, "export", "--quiet", "--project", str(CHECKOUT), "--frozen", "--no-dev"]
        run([*export, "--no-emit-project", "--output-file", str(pins)], "the list of pins")
        left_out.write_text("".join(f"{name}; python_version < '3'\n" for name in CONTROL_PLANE))
        site = work / "site"
        run(
            [
                *(uv, "pip", "install", "--quiet", "--only-binary", ":all:"),
                # No later than the glibc of the oldest Debian here, 2.36.
                *("--python-platform", "aarch64-manylinux_2_36", "--python-version", version),
                *("--constraint", str(pins), "--override", str(left_out)),
                *("--target", str(site), *wanted),
            ],
            "the Python environment",
        )
        for tests in site.glob("*/tests"):
            shutil.rmtree(tests)
        say("making the Python disk")
        compile_bytecode(site, version)
        disk(folder / "python.img", site, spare_mib=8)

    recipe = {
        "python": version,
        "wanted": wanted,
        "without": CONTROL_PLANE,
        "lock": hashlib.sha256(lock).hexdigest(),
    }
    return cached(cache, f"python-{version}", recipe, fill)


def run(command: Sequence[str], what: str, extra: Mapping[str, str] | None = None) -> None:
    """A command that makes something; Problem if it cannot."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(extra or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise Problem(
            f"The program {command[0]} is missing, and {what} cannot be made without it.",
            "Run: sudo make arm-host",
        ) from None
    if done.returncode:
        raise Problem(
            f"{Path(command[0]).name} could not make {what}.",
            "The lines below say why.",
            detail="\n".join(done.stderr.strip().splitlines()[-12:]),
        )
