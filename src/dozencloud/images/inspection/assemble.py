"""From an opened image to what is told of it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dozencloud.images.inspection import artefacts, initrds, kernels, loaders, systems, verdict
from dozencloud.images.inspection.formats import SECTOR, START, Opened, refuse_packed
from dozencloud.images.inspection.kconfig import drivers
from dozencloud.images.inspection.kernels import Default, Found, Place
from dozencloud.images.inspection.model import (
    Arch,
    Boot,
    Format,
    Inspection,
    Kernel,
    Loader,
    System,
)
from dozencloud.images.inspection.tree import BadImage, Readable, Tree
from dozencloud.images.inspection.unpack import Blob
from dozencloud.images.inspection.verdict import BootVerdict, Findings
from dozencloud.images.inspection.volumes import Disk, Volume, read_disk

GIB = 1 << 30
ISO9660 = (0x8001, b"CD001")
"""Where a CD says what it is (ECMA-119, 8.1); one for disks too has a partition table besides."""
DISK_NAME = re.compile(
    r"(?!init).*\.(?:raw|img|qcow2?|vmdk|vhdx?|vdi|wic|iso)(?:\.(?:gz|xz|zst|bz2|lz4))?",
    re.IGNORECASE,
)
XVA_DISK = re.compile(r"Ref:\d+")
"""A folder with the pieces of a disk, in an export of XenServer."""
MAX_FOLDERS = 256
"""Folders of an archive that are searched for a disk."""
UNPACK = {
    Format.TAR: "Unpack it: tar -xf FILE",
    Format.SQUASHFS: "Unpack it: unsquashfs FILE",
    Format.OCI: "Take the disk out of the container image's layers.",
}

# MiB. Tiny boots to its login in 128, which stands for all small systems; the others are what the
# distributions name as the least for a server, as their first start (cloud-init, package lists)
# needs it.
MEMORY = {
    "tiny": 128,
    "alpine": 128,
    "debian": 512,
    "raspbian": 512,
    "ubuntu": 512,
    "arch": 512,
    "archarm": 512,
    "fedora": 1024,
    "centos": 1024,
    "rocky": 1024,
    "almalinux": 1024,
    "rhel": 1024,
    "ol": 1024,
    "opensuse-leap": 1024,
    "opensuse-tumbleweed": 1024,
    "sles": 1024,
}
MEMORY_ELSE = 512
MEMORY_KERNEL = 128
MEMORY_UEFI = 256
"""Firmware itself wants some of it: less than this is never asked for with UEFI."""
MEMORY_CONTAINER = 64
"""A container has no kernel of its own to feed."""


def inspect(opened: Opened) -> Inspection:
    """All that can be told of an image, and whether it boots; BadImage if it is cut off."""
    if opened.disk is not None:
        size = opened.virtual_size
        disk = read_disk(opened.disk, size)
        if cut := opened.cut or disk.cut:
            raise BadImage(cut)
        opened.disk.seek(0)
        return inspect_disk(opened, disk, start=opened.disk.read(min(START, size)))
    if opened.tree is not None:
        return _tree(opened, opened.tree)
    if opened.head is not None:
        return inspect_bare(opened, Blob.of_file(opened.head))
    return _unknown(opened)


def inspect_disk(opened: Opened, disk: Disk, *, start: bytes) -> Inspection:
    """A disk with its file systems. start: its first bytes."""
    # A place that cannot be read hides nothing else.
    stores = {v.partition.number: Readable(v.tree.store) for v in disk.volumes if v.tree}
    volumes = [
        replace(volume, tree=Tree(stores[volume.partition.number]))
        for volume in disk.volumes
        if volume.tree
    ]
    places = [Place(volume.partition.number, volume.tree) for volume in volumes if volume.tree]
    programs = tuple(
        loader
        for volume in volumes
        if volume.tree and volume.tree.store.kind == "vfat"
        for loader in loaders.find(volume.tree)
    )
    root = _root(volumes)
    tree = root.tree if root else None
    # The root first: its /boot holds what belongs to it.
    places.sort(key=lambda place: place.tree is not tree)
    candidates = kernels.find(places, tree)
    started = _started(places, programs, candidates, tree)
    found = [*started, *candidates]
    first = [one for one in started if _by_firmware(one, programs)]
    chosen = kernels.default(places, found, tree, first)
    default = _faulted(_deepened(chosen, tree), stores)
    system = _system(root, default) if root else _system_in_kernel(default)
    findings = Findings(
        loaders=programs,
        system=system,
        default=default,
        esp=disk.esp,
        mbr_boot_code=disk.mbr_boot_code,
        installer=start.startswith(ISO9660[1], ISO9660[0]),
        empty=not start.strip(b"\0") and not disk.volumes,
        readable=bool(places),
        unread=tuple({v.partition.filesystem: None for v in disk.volumes if not v.tree}),
        trouble=next(_troubles(disk.volumes, stores), ""),
    )
    decided = verdict.of_disk(findings)
    booted = default.found.kernel if default.found and decided.boot is Boot.KERNEL else None
    line = ""
    if booted and system and root:
        line = verdict.command_line(default, system.root, root.subvolume)
    return replace(
        _basis(opened, decided),
        table=disk.table,
        sector=disk.sector,
        mbr_boot_code=disk.mbr_boot_code,
        partitions=tuple(volume.partition for volume in disk.volumes),
        esp=disk.esp,
        loaders=programs,
        kernels=_kernels(found, default),
        initrds=default.initrds,
        system=system,
        kernel=booted,
        command_line=line,
        min_disk=max(1, -(-opened.virtual_size // GIB)),
        min_memory=_memory(decided.boot, system),
        warnings=(*opened.warnings, *disk.warnings, *decided.warnings),
    )


def inspect_bare(opened: Opened, blob: Blob) -> Inspection:
    """A file that is a kernel or an initial RAM disk."""
    if initrds.is_initrd(blob):
        contents = initrds.look(blob)
        if contents is not None:
            initrd = kernels.as_model(contents, 0, "", blob.size)
            basis = _basis(opened, verdict.of_initrd(initrd))
            return replace(basis, format=Format.INITRD, initrds=(initrd,))
    artefact = artefacts.identify(blob, deep=True)
    if artefact is None:
        program = artefacts.efi_program(blob.read(0, artefacts.HEAD))
        if program:
            return _basis(opened, verdict.of_program(program.arch))
        refuse_packed(blob.read(0, artefacts.HEAD))
        return _unknown(opened)
    # What is known against a bare kernel's drivers comes from its own configuration alone.
    known = drivers(artefact.config, None)
    kernel = Kernel(
        where=0,
        path="",
        kind=artefact.kind,
        arch=artefact.arch,
        version=artefact.version,
        compression=artefact.compression,
        size=blob.size,
        virtio=artefact.virtio if known.virtio is None else known.virtio,
        modules=known.modules,
        lpae=artefact.lpae,
    )
    decided = verdict.of_kernel(kernel, artefact.fault)
    starts = decided.boot is Boot.KERNEL
    return replace(
        _basis(opened, decided),
        format=Format.KERNEL,
        kernels=(kernel,),
        kernel=kernel if starts else None,
        command_line=artefact.command_line if starts else "",
        min_memory=MEMORY_KERNEL if starts else 0,
    )


def _tree(opened: Opened, tree: Tree) -> Inspection:
    """An archive or a squashfs: the root of a container. BadImage if it holds a disk instead."""
    system = systems.read_system(tree, used=opened.virtual_size)
    if system.arch is None and (disk := _disk_in(tree, deep=not system.id)):
        raise BadImage(f"This is an archive of a disk image ({disk}).", UNPACK[opened.format])
    decided = verdict.of_tree(system, claimed=opened.arch)
    return replace(
        _basis(opened, decided),
        system=system if decided.boot is Boot.ROOTFS or system.id else None,
        min_disk=max(1, -(-opened.virtual_size // GIB)),
        min_memory=_memory(decided.boot, system),
    )


def _disk_in(tree: Tree, *, deep: bool) -> str:
    """The path of a disk image in an archive; empty if there is none."""
    folders = deque([""])
    for _ in range(MAX_FOLDERS):
        if not folders:
            break
        folder = folders.popleft()
        for name in tree.names(folder):
            path = f"{folder}/{name}" if folder else name
            node = tree.store.node(path)
            if node and node.is_file and DISK_NAME.fullmatch(name):
                return path
            if node and node.is_dir and XVA_DISK.fullmatch(name) and tree.exists("ova.xml"):
                return f"in pieces in {name}, as XenServer exports it"
            if node and node.is_dir and deep:
                folders.append(path)
    return ""


def _unknown(opened: Opened) -> Inspection:
    reason = "The bytes are of no kind that is known: no disk, archive, kernel or file system."
    if opened.size < SECTOR:
        reason = f"The file has {opened.size:,} bytes: it is cut off, or no image. Get it again."
    return _basis(opened, BootVerdict(Boot.NONE, None, reason))


def _basis(opened: Opened, decided: BootVerdict) -> Inspection:
    return Inspection(
        format=opened.format,
        boot=decided.boot,
        reason=decided.reason,
        compression=opened.compression,
        size=opened.size,
        virtual_size=opened.virtual_size,
        arch=decided.arch,
        warnings=(*opened.warnings, *decided.warnings),
    )


def _troubles(volumes: Sequence[Volume], stores: Mapping[int, Readable]) -> Iterator[str]:
    """What could not be read: whole file systems before single places."""
    yield from (volume.trouble for volume in volumes if volume.trouble)
    for store in stores.values():
        yield from store.troubles.values()


def _root(volumes: Sequence[Volume]) -> Volume | None:
    """The file system that is a system's root."""
    for volume in volumes:
        tree = volume.tree
        if tree and tree.store.kind != "vfat" and systems.looks_like_root(tree):
            return volume
    return None


def _started(
    places: Sequence[Place],
    programs: Sequence[Loader],
    known: Sequence[Found],
    root: Tree | None,
) -> list[Found]:
    """The other kernels that firmware starts, itself or by its shell: they are loaders too."""
    here = {(one.kernel.where, one.kernel.path) for one in known}
    paths = [loader.path for loader in programs if loaders.started(loader)]
    return [
        one
        for place in places
        for path in paths
        if (place.number, path) not in here
        and (one := kernels.examine(place, path, root)) is not None
    ]


def _by_firmware(kernel: Found, programs: Sequence[Loader]) -> bool:
    """Whether a server's firmware itself starts the kernel, so that no configuration is read."""
    return any(
        loader.path == kernel.kernel.path
        and loader.arch in verdict.MACHINES
        and loaders.removable(loader) is loader.arch
        for loader in programs
    )


def _deepened(default: Default, root: Tree | None) -> Default:
    """The default kernel asked itself, where its name and configuration leave something open."""
    found = default.found
    if found is None:
        return default
    kernel = found.kernel
    open_lpae = kernel.arch is Arch.ARMV7L and kernel.lpae is None
    if found.fault or (kernel.version and not open_lpae):
        return default
    deep = kernels.examine(found.place, kernel.path, root, deep=True)
    return replace(default, found=deep or found)


def _faulted(default: Default, stores: Mapping[int, Readable]) -> Default:
    """The default kernel, with a fault where it or its initial RAM disk cannot be read.

    What is not there may be what cannot be read.
    """
    found = default.found
    if not default.initrds and any(store.troubles for store in stores.values()):
        default = replace(default, initrds_whole=False)
    if found is None or found.fault:
        return default
    needed = [(found.kernel.where, found.kernel.path)]
    needed += [(initrd.where, initrd.path) for initrd in default.initrds]
    fault = next((told for n, path in needed if (told := stores[n].troubles.get(path))), "")
    return replace(default, found=replace(found, fault=fault))


def _kernels(found: Sequence[Found], default: Default) -> tuple[Kernel, ...]:
    """All kernels, the default first and as it is best known."""
    chosen = default.found
    if chosen is None:
        return tuple(one.kernel for one in found)
    here = (chosen.kernel.where, chosen.kernel.path)
    rest = [one.kernel for one in found if (one.kernel.where, one.kernel.path) != here]
    return (chosen.kernel, *rest)


def _system(root: Volume, default: Default) -> System | None:
    if root.tree is None:
        return None
    system = systems.read_system(root.tree, partition=root.partition.number, used=root.used)
    return replace(
        system,
        consoles=_consoles(default),
        root=_root_argument(root, root.tree, default),
    )


def _system_in_kernel(default: Default) -> System | None:
    """The system that a unified kernel image names, where there is no root beside it."""
    found = default.found
    about = systems.parse_os_release(found.os_release) if found else {}
    if not about:
        return None
    return System(
        id=about.get("ID", ""),
        version=about.get("VERSION_ID", ""),
        name=about.get("PRETTY_NAME") or about.get("NAME", ""),
        arch=next((one.arch for one in default.initrds if one.arch), None),
        consoles=_consoles(default),
    )


def _consoles(default: Default) -> tuple[str, ...]:
    arguments = (argument.partition("=") for argument in default.arguments)
    return tuple(value for name, _, value in arguments if name == "console")


def _root_argument(root: Volume, tree: Tree, default: Default) -> str:
    """The loader's root=, unless it names a device of other hardware; else how to find the root."""
    given = [a.partition("=")[2] for a in default.arguments if a.startswith("root=")]
    if given and re.match(r"(UUID|LABEL|PARTUUID|PARTLABEL)=|/dev/vd|/dev/mapper/", given[-1]):
        return given[-1]
    if not default.initrds:
        # A kernel alone knows disks only by the names that it gives them.
        return f"/dev/vda{root.partition.number or ''}"
    in_fstab = systems.root_argument(tree)
    if in_fstab:
        return in_fstab
    if tree.store.uuid:
        return f"UUID={tree.store.uuid}"
    if tree.store.label:
        return f"LABEL={tree.store.label}"
    return f"/dev/vda{root.partition.number or ''}"


def _memory(boot: Boot, system: System | None) -> int:
    if boot is Boot.NONE:
        return 0
    if boot is Boot.ROOTFS:
        return MEMORY_CONTAINER
    needed = MEMORY.get(system.id, MEMORY_ELSE) if system else MEMORY_KERNEL
    return max(needed, MEMORY_UEFI) if boot is Boot.UEFI else needed
