"""The kernels and initial RAM disks in an image, and which of them boot by default."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dozencloud.images.inspection import artefacts, bootconf, initrds
from dozencloud.images.inspection.bootentry import Entry, natural
from dozencloud.images.inspection.kconfig import LIMIT, Config, Drivers, drivers
from dozencloud.images.inspection.model import Arch, Initrd, Kernel, KernelKind
from dozencloud.images.inspection.tree import Tree
from dozencloud.images.inspection.unpack import Blob

KERNEL_NAME = re.compile(
    r"(?:vmlinu[xz]|linux|kernel|[Ii]mage|zImage|uImage)(?:-(?P<version>\d[\w.+~-]*)|[\w.+~-]*)?"
)
FOLDERS = ("boot", "", "boot/efi", "EFI/Linux")
MAX_KERNELS = 32
MAX_INITRDS = 16
"""Of one entry."""
MAX_CANDIDATES = 128
"""Files of one file system that are looked at because of their names."""
MODULES = ("usr/lib/modules", "lib/modules")
SKIPPED = ("rescue", ".old", ".sig", ".hmac", ".dpkg", ".txt", ".gz.efi")


@dataclass(frozen=True)
class Place:
    """A file system of the image. number: of its partition."""

    number: int
    tree: Tree


@dataclass(frozen=True)
class Found:
    """A kernel in its place. fault: why it cannot start, in a sentence.

    command_line, os_release, embedded: of a unified kernel image; embedded: where in it the initial
    RAM disk is, offset and size.
    """

    place: Place
    kernel: Kernel
    fault: str = ""
    command_line: str = ""
    os_release: str = ""
    embedded: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Default:
    """What boots. arguments: of the loader's entry; configured: a loader's configuration said so.

    initrds: as they are loaded, one behind the other. initrds_whole: which they are is sure, and
    all could be read to their ends, so that what they lack is known.
    """

    found: Found | None = None
    initrds: tuple[Initrd, ...] = ()
    initrds_whole: bool = True
    arguments: tuple[str, ...] = ()
    configured: bool = False


def find(places: Sequence[Place], root: Tree | None) -> list[Found]:
    """All kernels, the newest first."""
    found = []
    for place in places:
        for path in itertools.islice(_candidates(place.tree), MAX_CANDIDATES):
            one = examine(place, path, root)
            if one is not None:
                found.append(one)
            if len(found) >= MAX_KERNELS:
                break
    found.sort(key=lambda one: natural(one.kernel.version), reverse=True)
    return found


def _candidates(tree: Tree) -> Iterator[str]:
    for folder in FOLDERS:
        for name in tree.names(folder):
            path = f"{folder}/{name}" if folder else name
            unified = folder == "EFI/Linux" and name.lower().endswith(".efi")
            # A short name of a FAT may be in capitals, whoever wrote it.
            plain = name.lower() if tree.store.kind == "vfat" and name.isupper() else name
            named = KERNEL_NAME.fullmatch(plain) and not any(part in plain for part in SKIPPED)
            node = tree.store.node(path)
            if (unified or named) and node is not None and node.is_file:
                yield path
    for modules in MODULES[:1] if tree.exists(MODULES[0]) else MODULES[1:]:
        for version in tree.names(modules)[:MAX_KERNELS]:
            if tree.exists(f"{modules}/{version}/vmlinuz"):
                yield f"{modules}/{version}/vmlinuz"


def examine(place: Place, path: str, root: Tree | None, *, deep: bool = False) -> Found | None:
    """The kernel at a path, its drivers looked up beside it and in the root."""
    blob = Blob.of_path(place.tree, path)
    if blob is None:
        return None
    artefact = artefacts.identify(blob, deep=deep)
    if artefact is None or artefact.kind is KernelKind.ELF:
        return None
    version = artefact.version or _version(path, root)
    known = _drivers(version, path, artefact, place.tree, root)
    arch = artefact.arch
    if arch is Arch.ARMV7L and known.lpae is None and artefact.lpae is not None:
        known = replace(known, lpae=artefact.lpae)
    kernel = Kernel(
        where=place.number,
        path=path.strip("/"),
        kind=artefact.kind,
        arch=known.arch if known.arch and arch is Arch.ARMV7L else arch,
        version=version,
        compression=artefact.compression,
        size=blob.size,
        virtio=known.virtio if known.virtio is not None else artefact.virtio,
        modules=known.modules,
        lpae=known.lpae if arch in (Arch.ARMV7L, Arch.ARMV6) else None,
    )
    return Found(
        place,
        kernel,
        artefact.fault,
        artefact.command_line,
        artefact.os_release,
        artefact.initrd,
    )


def _version(path: str, root: Tree | None) -> str:
    """The version in a kernel's path; of a flavour's name, the one whose modules are there."""
    folder, _, name = path.rpartition("/")
    if name == "vmlinuz" and "/modules/" in f"/{folder}":
        return folder.rpartition("/")[2]
    match = KERNEL_NAME.fullmatch(name)
    if match and match["version"]:
        return re.sub(r"\.(gz|img|efi)$", "", match["version"])
    # Alpine names a kernel after its flavour: vmlinuz-virt.
    flavour = name.partition("-")[2]
    versions = [] if root is None else root.names(_modules_folder(root))
    fitting = [one for one in versions if flavour and one.endswith(f"-{flavour}")]
    return fitting[0] if len(fitting) == 1 else ""


def _modules_folder(tree: Tree) -> str:
    return MODULES[0] if tree.exists(MODULES[0]) else MODULES[1]


def _drivers(
    version: str, path: str, artefact: artefacts.Artefact, tree: Tree, root: Tree | None
) -> Drivers:
    if artefact.config.known or not version:
        return drivers(artefact.config, None)
    folder = path.rpartition("/")[0]
    modules = f"{_modules_folder(root)}/{version}" if root is not None else ""
    beside = f"{folder}/config-{version}".lstrip("/")
    text = tree.text(beside, LIMIT)
    if not text and root is not None:
        for other in (
            f"boot/config-{version}",
            f"{modules}/config",
            f"lib/kernel/config-{version}",
        ):
            text = text or root.text(other, LIMIT)
    lists = (root, modules) if root is not None else None
    return drivers(Config.parse(text), lists)


def default(
    places: Sequence[Place],
    kernels: Sequence[Found],
    root: Tree | None,
    started: Sequence[Found] = (),
) -> Default:
    """The kernel that boots without anybody choosing: as a loader is set up, else the newest.

    started: those that firmware itself starts, whatever loaders there are besides.
    """
    for kernel in started:
        if not kernel.fault:
            return _alone(kernel, places)
    sure = True
    for place in places:
        others = [other.tree for other in places if other is not place]
        entry = bootconf.default_entry(place.tree, others)
        if entry is None:
            continue
        found = _resolve(entry.kernel, place, places, root)
        if found is not None:
            return _as_entry(entry, found, place, places)
        sure = sure and entry.sure
    for kernel in kernels:
        if not kernel.fault:
            alone = _alone(kernel, places)
            return replace(alone, initrds_whole=alone.initrds_whole and sure)
    return Default(found=kernels[0] if kernels else None)


def _alone(found: Found, places: Sequence[Place]) -> Default:
    """A kernel that no configuration names."""
    beside = _beside(found, places)
    # A unified image without one that can be read may still have one.
    unread = beside is None and bool(found.embedded[1])
    initrds, whole = _together([beside] if beside else [], found.kernel)
    arguments = tuple(found.command_line.split())
    return Default(found, initrds, whole and not unread, arguments, bool(arguments))


def _as_entry(entry: Entry, found: Found, place: Place, places: Sequence[Place]) -> Default:
    """A kernel with what its entry adds to it; a unified one brings its own initrd and line too."""
    embedded = _embedded(found)
    named = [_resolve_initrd(path, place, places) for path in entry.initrds[:MAX_INITRDS]]
    initrds, whole = _together([one for one in (embedded, *named) if one], found.kernel)
    unread = embedded is None and bool(found.embedded[1])
    arguments = entry.arguments or tuple(found.command_line.split())
    return Default(found, initrds, whole and entry.sure and not unread, arguments, True)


def _homes(path: str, first: Place, places: Sequence[Place]) -> Iterator[tuple[Place, str]]:
    """Where a loader's path may lie: it is relative to a file system that only the loader knows."""
    for place in (first, *(other for other in places if other is not first)):
        for prefix in ("", "boot/"):
            where = place.tree.resolve(prefix + path.lstrip("/"))
            if where:
                yield place, where


def _resolve(path: str, first: Place, places: Sequence[Place], root: Tree | None) -> Found | None:
    for place, where in _homes(path, first, places):
        found = examine(place, where, root)
        if found is not None:
            return found
    return None


@dataclass(frozen=True)
class Ramdisk:
    """An initial RAM disk in its place, as its bytes tell it."""

    where: int
    path: str
    size: int
    contents: initrds.Contents


def _resolve_initrd(path: str, first: Place, places: Sequence[Place]) -> Ramdisk | None:
    for place, where in _homes(path, first, places):
        found = read_initrd(place, where)
        if found is not None:
            return found
    return None


def _embedded(found: Found) -> Ramdisk | None:
    if not found.embedded[1]:
        return None
    return read_initrd(found.place, found.kernel.path, found.embedded)


def _beside(found: Found, places: Sequence[Place]) -> Ramdisk | None:
    """The initial RAM disk inside a kernel, or the one that belongs to it by its name."""
    if found.embedded[1]:
        return _embedded(found)
    folder, _, name = found.kernel.path.rpartition("/")
    suffix = name.partition("-")[2]
    names = [f"initrd.img-{suffix}", f"initrd-{suffix}", f"initramfs-{suffix}.img"]
    names += [f"initramfs-{suffix}", f"uInitrd-{suffix}", "initrd.img", "initrd", "initramfs.img"]
    # Arch Linux ARM, whose kernel is just called Image.
    names.append("initramfs-linux.img")
    for each in names:
        for path in (f"{folder}/{each}".lstrip("/"), f"boot/{each}"):
            here = _resolve_initrd(path, found.place, places)
            if here is not None:
                return here
    return None


def read_initrd(place: Place, path: str, part: tuple[int, int] | None = None) -> Ramdisk | None:
    """The initial RAM disk at a path; None if it is none."""
    blob = Blob.of_path(place.tree, path)
    if blob is None:
        return None
    contents = initrds.look(blob if part is None else blob.part(*part))
    if contents is None:
        return None
    return Ramdisk(place.number, path, part[1] if part else blob.size, contents)


def _together(read: Sequence[Ramdisk], kernel: Kernel) -> tuple[tuple[Initrd, ...], bool]:
    """What is told of initial RAM disks that are loaded together; whether all were read whole."""
    modules = frozenset[str]().union(*(one.contents.modules for one in read))
    told = tuple(
        as_model(replace(one.contents, modules=modules), one.where, one.path, one.size, kernel)
        for one in read
    )
    return told, all(one.contents.whole for one in read)


def as_model(
    contents: initrds.Contents, where: int, path: str, size: int, kernel: Kernel | None = None
) -> Initrd:
    """What is told of an initial RAM disk, for the kernel that it belongs to."""
    if kernel is not None and kernel.virtio is not None:
        virtio: bool | None = set(kernel.modules) <= contents.modules
    else:
        # Who made it put in what its kernel lacks.
        virtio = True if "virtio_blk" in contents.modules else None
    return Initrd(
        where=where,
        path=path,
        compression=contents.compression,
        version=contents.version,
        size=size,
        virtio=virtio,
        arch=contents.arch,
    )
