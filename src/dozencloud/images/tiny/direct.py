"""The image `tiny`: a small ARM server from Debian's own kernel, busybox, dropbear and curl.

It boots in about two seconds under emulation, takes its name, keys and password from Nova's
metadata, and keeps its data on a small disk. It is for the first server and for tests: no package
manager, no init system. It is built without root's help beyond apt: nothing foreign is run, nothing
is mounted.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dozencloud.errors import Problem
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need
from dozencloud.images.files import building, file_hash, sync
from dozencloud.images.formats import cpio, kmod
from dozencloud.images.formats.elf import Elf
from dozencloud.images.packages import apt, debs
from dozencloud.locks import open_lock

RECIPE = 1
"""Raise it when this module makes something else from the same packages and guest files."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
GUEST = Path(__file__).parent / "guest"
"""The guest's own files, laid out as in its root."""

COMMAND_LINE = "earlycon console=ttyAMA0"
"""earlycon: a kernel that dies before its console driver still says why."""

STATE_MIB = 64
STATE_LABEL = "tiny-state"


@dataclass(frozen=True)
class Port:
    """What Debian calls an architecture, and which kernel boots on QEMU's `virt` machine."""

    debian: str
    triplet: str
    kernel_package: str


PORTS = {
    # The cloud flavour is a third of the size of the usual one (28 against 93 MB).
    "aarch64": Port("arm64", "aarch64-linux-gnu", "linux-image-cloud-arm64"),
    # QEMU puts PCI's configuration space above 4 GiB; a kernel without LPAE sees no PCI device.
    "armv7l": Port("armhf", "arm-linux-gnueabihf", "linux-image-armmp-lpae"),
}

PACKAGES = ("busybox-static", "dropbear-bin", "curl", "gpiod")

NOT_FETCHED = (
    # asked for by the kernel's package, for installing it
    "initramfs-tools",
    "kmod",
    "linux-base",
    # asked for by libraries' packages; no program in the image loads any of it
    "coreutils",
    "libdb5.3t64",
    "libsasl2-modules-db",
    "libstdc++6",
    "openssl-provider-legacy",
)

PROGRAMS = (
    "usr/bin/busybox",
    "usr/bin/curl",
    "usr/bin/dbclient",
    "usr/bin/dropbearkey",
    # The power button of a `virt` machine without ACPI is a GPIO line; Debian's cloud kernel has
    # no driver that makes a key of it.
    "usr/bin/gpiomon",
    "usr/sbin/dropbear",
)

MODULES = (
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_scsi",
    "virtio_rng",
    "virtio_balloon",
    "sd_mod",
    "sr_mod",
    "crc32c_generic",  # ext4 asks for it by alias, which `depends=` does not say
    "ext4",
    "isofs",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "nls_utf8",
    "evdev",
)

LINKS = {
    # Debian's merged /usr; the libraries' loader is asked for under /lib.
    "bin": "usr/bin",
    "lib": "usr/lib",
    "sbin": "usr/sbin",
    "init": "usr/bin/busybox",
    "usr/bin/sh": "busybox",
    "usr/bin/ssh": "dbclient",
    # On the state disk, so that a password that was set outlives a reboot.
    "etc/shadow": "../var/lib/tiny/shadow",
}

EMPTY_FOLDERS = {
    ".": 0o755,  # otherwise the kernel leaves its root writable for everybody
    "dev": 0o755,
    "etc/dropbear": 0o700,
    "home/dozen": 0o700,
    "mnt": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "run": 0o755,
    "state": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "var/log": 0o755,
}
DOZEN_UID = 1000


@dataclass(frozen=True)
class TinyImage:
    """A finished image: three files, and how to boot them."""

    architecture: str
    """Nova's name: aarch64 or armv7l."""
    kernel: Path
    initrd: Path
    disk: Path
    """qcow2; the server's own, holds what must outlive a reboot."""
    command_line: str
    kernel_release: str
    digest: str
    """Changes with the recipe, the guest's files, and any package."""


def build(
    architecture: str,
    cache: Path,
    *,
    mirror: str = "http://deb.debian.org/debian",
    suite: str = "trixie",
    keyring: Path = KEYRING,
    say: Callable[[str], None] = lambda _line: None,
    await_tools: Callable[[], None] = lambda: None,
) -> TinyImage:
    """The image for an architecture, from the cache if it was built before.

    suite: while the mirror updates it, the release before is taken, and `say` hears of it.
    await_tools: returns when what apt and dpkg alone do not bring (mke2fs, qemu-img, on Ubuntu
    Debian's keyring) is there; called as late as possible, so that a build can go on beside the
    installation of those packages.

    A finished image is a folder in `cache` that appears in one step, so a build that is killed
    leaves nothing that a later one would trust. With the image in the cache no network is needed.
    """
    if architecture not in PORTS:
        raise Problem(
            f"The tiny image exists for {' and '.join(PORTS)}, not for {architecture}.",
            "Choose one of these.",
        )
    port = PORTS[architecture]
    cache = cache.absolute()  # apt takes relative paths as relative to its own folders
    recipe = _recipe_digest(port, suite)
    pointer = cache / f"tiny-{architecture}-{suite}-{recipe[:16]}"
    if (known := _load(pointer)) is not None:
        return known
    with building(cache, "400 MB"), alone(cache):
        if (known := _load(pointer)) is not None:
            return known
        _remove_leftovers(cache)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as work:
            if not keyring.exists():
                await_tools()
            source = apt.Source(mirror, suite, keyring)
            return _build(architecture, source, recipe, pointer, Path(work), say, await_tools)


def _build(
    architecture: str,
    source: apt.Source,
    recipe: str,
    pointer: Path,
    work: Path,
    say: Callable[[str], None],
    await_tools: Callable[[], None],
) -> TinyImage:
    port = PORTS[architecture]
    say(f"fetching Debian {source.suite} packages for {port.debian}")
    (work / "apt").mkdir()
    wanted = (port.kernel_package, *PACKAGES)
    packages = debs.fetch(source, port.debian, wanted, work / "apt", without=NOT_FETCHED, say=say)
    digest = _digest({"recipe": recipe, "packages": [(p.name, file_hash(p)) for p in packages]})
    say(f"unpacking {len(packages)} packages")
    root = work / "root"
    debs.unpack(packages, root)
    shutil.rmtree(work / "apt")

    say("making kernel, initramfs and state disk")
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise Problem(
            f"The package {port.kernel_package} brought {len(kernels)} kernels, one was expected.",
            "Name another suite or mirror.",
        )
    release = kernels[0].name.removeprefix("vmlinuz-")
    out = work / "image"
    out.mkdir()
    shutil.copyfile(kernels[0], out / "vmlinuz")
    with (out / "initrd.cpio").open("wb") as stream:
        cpio.write(stream, initramfs(root, port, release))
    await_tools()
    _state_disk(out / "state.qcow2", work / "state.raw", digest)
    _finish(
        out,
        {
            "architecture": architecture,
            "command_line": COMMAND_LINE,
            "kernel_release": release,
            "digest": digest,
        },
    )

    final = pointer.parent / f"tiny-{architecture}-{digest[:16]}"
    if _load(final) is None:
        if final.exists():
            shutil.rmtree(final)
        out.rename(final)
    link = work / "pointer"
    link.symlink_to(final.name)
    link.rename(pointer)
    sync(pointer.parent)
    image = _load(pointer)
    if image is None:
        raise Problem(f"The image in {final} vanished while it was built.", "Run it again.")
    return image


def guest_files() -> dict[str, bytes]:
    """The guest's own files: path in its root, content."""
    return {
        str(path.relative_to(GUEST)): path.read_bytes()
        for path in sorted(GUEST.rglob("*"))
        if path.is_file()
    }


def initramfs(root: Path, port: Port, release: str) -> list[cpio.Entry]:
    """What the guest's root consists of; root: the unpacked packages."""
    return [
        *own_files(guest_files()),
        *_programs(root, port),
        *_modules(root / "usr/lib/modules" / release, f"usr/lib/modules/{release}"),
    ]


def own_files(guest: dict[str, bytes]) -> list[cpio.Entry]:
    """All that does not come from a package."""
    entries = [cpio.symlink(name, target) for name, target in LINKS.items()]
    for name, mode in EMPTY_FOLDERS.items():
        owner = DOZEN_UID if name == "home/dozen" else 0
        entries.append(cpio.directory(name, mode, uid=owner, gid=owner))
    entries.append(cpio.character_device("dev/console", 5, 1))
    for name, data in guest.items():
        secret = name.endswith("/shadow")
        script = data.startswith(b"#!")
        entries.append(cpio.file(name, data, 0o755 if script else 0o600 if secret else 0o644))
    return entries


def _programs(root: Path, port: Port) -> Iterator[cpio.Entry]:
    """The programs, their loader, and every library that they name."""
    folders = (f"usr/lib/{port.triplet}", "usr/lib")
    waiting = list(PROGRAMS)
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        path = root / name
        if not path.is_file():
            raise Problem(
                f"Debian's packages no longer have /{name}, which the image needs.",
                "Name the suite trixie, or update this software.",
            )
        data = path.read_bytes()
        yield cpio.file(name, data, 0o755)
        elf = Elf(data)
        more = [_find(root, folders, library) for library in elf.needed]
        if elf.interpreter:
            more.append("usr" + elf.interpreter)
        waiting += [new for new in dict.fromkeys(more) if new not in seen]
        seen.update(more)


def _find(root: Path, folders: Iterable[str], library: str) -> str:
    for folder in folders:
        if (root / folder / library).is_file():
            return f"{folder}/{library}"
    raise Problem(
        f"No package of the image has the library {library}.",
        "Name the suite trixie, or update this software.",
    )


def _modules(source: Path, target: str) -> list[cpio.Entry]:
    try:
        modules = kmod.closure(source, MODULES)
    except kmod.MissingModule as missing:
        raise Problem(
            f"Debian's kernel {source.name} has no module {missing.name}.",
            "Name the suite trixie, or update this software.",
        ) from None
    files = [cpio.file(f"{target}/{module.path}", module.data) for module in modules]
    index = kmod.modules_dep(modules).encode()
    # Without the list of built-in ones, modprobe would call them missing.
    builtin = (source / "modules.builtin").read_bytes()
    return [
        *files,
        cpio.file(f"{target}/modules.dep", index),
        cpio.file(f"{target}/modules.builtin", builtin),
    ]


def _state_disk(target: Path, raw: Path, digest: str) -> None:
    """An empty ext4 on a sparse file, then qcow2: a few hundred KiB."""
    identity = str(uuid.uuid5(uuid.NAMESPACE_OID, digest))
    with raw.open("wb") as stream:
        stream.truncate(STATE_MIB << 20)
    _run(
        [
            *("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", STATE_LABEL),
            *("-U", identity, "-N", "4096", "-J", "size=4"),
            *("-E", f"hash_seed={identity},lazy_itable_init=0,root_owner=0:0", str(raw)),
        ],
        Need.FILE_SYSTEMS,
        # Otherwise the time of the build would be in the file.
        {"E2FSPROGS_FAKE_TIME": "1", "SOURCE_DATE_EPOCH": "1"},
    )
    _run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(target)], Need.DISKS)


def _run(command: list[str], need: Need, extra: dict[str, str] | None = None) -> None:
    # sbin is not on every user's path; mke2fs lives there.
    path = os.environ.get("PATH", "/usr/bin") + ":/usr/sbin:/sbin"
    environment = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", **(extra or {})}
    program = shutil.which(command[0], path=path)
    if program is None:
        raise Problem(
            f"The program {command[0]} is missing.",
            f"Install it: {registry.here().to_install(need)}",
        )
    done = subprocess.run(
        [program, *command[1:]],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        if "No space left on device" in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise Problem(
            f"{command[0]} could not make the image's state disk.",
            "The lines below say why.",
            detail=done.stderr.strip(),
        )


# The cache


MANIFEST = "tiny.json"


def _finish(folder: Path, about: dict[str, Any]) -> None:
    """Write the manifest, and everything to disk: a power cut must not leave a hollow image."""
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps({**about, "files": files}, indent=1) + "\n")
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def _load(folder: Path) -> TinyImage | None:
    """A finished image, or None if the folder is missing or not whole."""
    try:
        folder = folder.resolve(strict=True)
        about = json.loads((folder / MANIFEST).read_text())
        for name, size in about["files"].items():
            if (folder / name).stat().st_size != size:
                return None
        return TinyImage(
            architecture=about["architecture"],
            kernel=folder / "vmlinuz",
            initrd=folder / "initrd.cpio",
            disk=folder / "state.qcow2",
            command_line=about["command_line"],
            kernel_release=about["kernel_release"],
            digest=about["digest"],
        )
    except (OSError, ValueError, KeyError):
        return None


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """One build at a time in a cache; the lock goes with the process that holds it."""
    cache.mkdir(parents=True, exist_ok=True)
    with open_lock(cache / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(cache: Path) -> None:
    for folder in cache.glob(".build-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _recipe_digest(port: Port, suite: str) -> str:
    return _digest(
        {
            "recipe": RECIPE,
            "suite": suite,
            "port": asdict(port),
            "packages": PACKAGES,
            "programs": PROGRAMS,
            "modules": MODULES,
            "links": LINKS,
            "folders": EMPTY_FOLDERS,
            "command_line": COMMAND_LINE,
            "state_mib": STATE_MIB,
            "guest": {
                name: hashlib.sha256(data).hexdigest() for name, data in guest_files().items()
            },
        }
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
