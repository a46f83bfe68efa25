"""The build, from a recipe to finished files in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dozencloud.errors import Problem
from dozencloud.images.debian import disk, files, root, tools
from dozencloud.images.debian.packages import Apt, Archive, Package, newest
from dozencloud.images.debian.recipe import Purpose, Recipe
from dozencloud.images.files import building, file_hash, sync
from dozencloud.images.inspection.confine import inspect_file
from dozencloud.images.inspection.model import Boot
from dozencloud.images.inspection.tree import BadImage
from dozencloud.locks import open_lock

VERSION = 1
"""Raise it when this package makes something else from the same recipe, files and packages."""

MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

MANIFEST = "manifest.json"
KERNEL = "vmlinuz"
INITRD = "initrd.img"


@dataclass(frozen=True)
class Built:
    """A finished image."""

    recipe: Recipe
    digest: str
    """Changes with the recipe, this package's files, and any Debian package."""
    image: Path
    """A compressed qcow2 (vm: the disk; kernel: an ext4 root without partitions) or a tar.zst."""
    manifest: Path
    """JSON: versions of all packages, sizes and SHA-256 sums of all files."""
    kernel: Path | None = None
    initrd: Path | None = None
    command_line: str = ""
    """For purpose `kernel`, as are the two files."""


def build(
    recipe: Recipe,
    cache: Path,
    *,
    say: Callable[[str], None] = lambda _line: None,
    mirror: str = MIRROR,
    security: str = SECURITY,
    keyring: Path = KEYRING,
    proxy: str = "",
) -> Built:
    """Make an image from Debian's packages of today, or return it from the cache.

    cache: a folder that is kept; it also holds apt's lists and the package files, and needs about
        3 GB while a build is at work. A finished image appears in it in one step. Of each recipe
        the latest image is kept.
    proxy: URL of an HTTP proxy; by default the one that apt on this machine is set to.
    """
    tools.require(recipe)
    cache = cache.absolute()  # apt takes relative paths as relative to its own folders
    archive = Archive(mirror.rstrip("/"), security.rstrip("/"), keyring, proxy)
    with building(cache, "3 GB"), _alone(cache, recipe, say) as lock:
        return _build(recipe, cache, archive, say, lock)


def _build(
    recipe: Recipe, cache: Path, archive: Archive, say: Callable[[str], None], lock: int
) -> Built:
    apt = Apt(archive, recipe.suite, recipe.architecture, cache / f"apt-{_port(recipe)}")
    say(f"reading the package lists of Debian {recipe.suite} for {recipe.architecture}")
    apt.update()
    packages = apt.resolve(recipe.packages)
    digest = key(recipe, packages)
    final = cache / f"{recipe.name}-{digest[:16]}"
    if (known := load(final)) is not None:
        return known
    say(f"fetching {len(packages)} packages")
    epoch = newest(apt.fetch(packages))
    for leftover in cache.glob(f".build-{recipe.name}-*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=f".build-{recipe.name}-", dir=cache) as name:
        work = Path(name)
        tar = root.make(recipe, apt, packages, epoch, work, say, lock)
        out = work / "image"
        out.mkdir()
        say("writing the image")
        if recipe.purpose is Purpose.CONTAINER:
            root.compress(tar, out / f"{recipe.name}.tar.zst")
        else:
            _disk(recipe, tar, epoch, out, work)
        _check(recipe, out)
        _finish(out, recipe, digest, packages)
        if final.exists():
            shutil.rmtree(final)
        out.rename(final)
        sync(cache)
    _forget_older(cache, recipe, final)
    apt.forget_older(packages)
    built = load(final)
    if built is None:
        raise Problem(f"The image in {final} vanished while it was built.", "Run it again.")
    return built


def key(recipe: Recipe, packages: Sequence[Package]) -> str:
    """Names all that an image is made from."""
    return _digest(
        {
            "version": VERSION,
            "recipe": asdict(recipe),
            "wanted": recipe.packages,
            "before": files.before(recipe),
            "after": files.after(recipe),
            "command_line": files.command_line(recipe),
            "dpkg": files.NO_DOCUMENTATION,
            "grub": root.GRUB_MODULES,
            "hooks": {hook.name: hook.read_text() for hook in sorted(root.HOOKS.iterdir())},
            "packages": [asdict(package) for package in packages],
        }
    )


BOOT = {Purpose.VM: Boot.UEFI, Purpose.KERNEL: Boot.KERNEL, Purpose.CONTAINER: Boot.ROOTFS}
"""How an image for each purpose must start."""


def _check(recipe: Recipe, out: Path) -> None:
    """Problem if inspection would not call the image what it is meant to be."""
    ending = "tar.zst" if recipe.purpose is Purpose.CONTAINER else "qcow2"
    try:
        found = inspect_file(out / f"{recipe.name}.{ending}", seconds=300, work=out)
        boot, reason = found.boot, found.reason
    except BadImage as bad:
        boot, reason = Boot.NONE, str(bad)
    if boot is not BOOT[recipe.purpose]:
        raise Problem(
            f"The image was built, but it does not start by {BOOT[recipe.purpose]}: "
            f"{reason or boot}",
            "A package may have changed: report it, with this sentence.",
        )


def _disk(recipe: Recipe, tar: Path, epoch: int, out: Path, work: Path) -> None:
    tree = work / "tree"
    root.unpack(tar, tree)
    tar.unlink()
    raw = work / "disk.raw"
    size = disk.root_size(disk.used(tree))
    start = 0
    if recipe.purpose is Purpose.VM:
        plan = disk.layout(size)
        start = plan.root_start
        _uefi(recipe, tree, plan, raw, epoch)
    else:
        with raw.open("wb") as stream:
            stream.truncate(size)
        for link, name in (("vmlinuz", KERNEL), ("initrd.img", INITRD)):
            shutil.copyfile(tree / "boot" / (tree / link).readlink().name, out / name)
    disk.make_root(raw, start, size, tree, recipe.identity("root"), epoch)
    disk.compress(raw, out / f"{recipe.name}.qcow2")


def _uefi(recipe: Recipe, tree: Path, plan: disk.Layout, raw: Path, epoch: int) -> None:
    boot = recipe.boot
    assert boot is not None  # noqa: S101
    script = disk.partition_script(
        plan,
        boot.root_type,
        recipe.identity("disk"),
        recipe.identity("esp partition"),
        recipe.identity("root partition"),
    )
    disk.make_gpt(raw, plan.size, script)
    serial = files.fat_serial(recipe.identity("esp"))
    grub = tree / "boot/grub"
    loader = {
        f"EFI/BOOT/{boot.loader}": grub / boot.grub / "core.efi",
        # Debian 12's package upgrades the loader if this folder exists, Debian 13's if core.efi.
        "EFI/debian/grub.cfg": grub / "early.cfg",
    }
    disk.make_esp(raw, plan.esp_start, plan.esp_size, serial, loader, epoch)


# The cache


def _finish(folder: Path, recipe: Recipe, digest: str, packages: Sequence[Package]) -> None:
    """Write the manifest, and everything to disk: a power cut must not leave a hollow image."""
    about = {
        "recipe": asdict(recipe),
        "digest": digest,
        "command_line": (files.command_line(recipe) if recipe.purpose is Purpose.KERNEL else ""),
        "files": {
            path.name: {"size": path.stat().st_size, "sha256": file_hash(path)}
            for path in sorted(folder.iterdir())
        },
        "packages": {f"{p.name}:{p.architecture}": p.version for p in packages},
    }
    (folder / MANIFEST).write_text(json.dumps(about, indent=1) + "\n")
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def load(folder: Path) -> Built | None:
    """A finished image, or None if the folder is missing or not whole."""
    try:
        about: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        for name, entry in about["files"].items():
            if (folder / name).stat().st_size != entry["size"]:
                return None
        recipe = Recipe.parse(**about["recipe"])
    except (OSError, ValueError, KeyError, TypeError, Problem):
        return None
    apart = recipe.purpose is Purpose.KERNEL
    ending = "tar.zst" if recipe.purpose is Purpose.CONTAINER else "qcow2"
    return Built(
        recipe=recipe,
        digest=about["digest"],
        image=folder / f"{recipe.name}.{ending}",
        manifest=folder / MANIFEST,
        kernel=folder / KERNEL if apart else None,
        initrd=folder / INITRD if apart else None,
        command_line=about["command_line"],
    )


@contextmanager
def _alone(cache: Path, recipe: Recipe, say: Callable[[str], None]) -> Iterator[int]:
    """One build at a time for a suite and architecture, whose apt folder they share.

    mmdebstrap inherits the lock: while any of it runs, no other build begins.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with open_lock(cache / f".lock-{_port(recipe)}") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build of {recipe.suite} for {recipe.architecture}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _forget_older(cache: Path, recipe: Recipe, final: Path) -> None:
    for folder in cache.glob(f"{recipe.name}-*"):
        if folder != final:
            shutil.rmtree(folder)


def _port(recipe: Recipe) -> str:
    return f"{recipe.suite}-{recipe.architecture}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
