"""EFI programs in the FAT file systems of an image."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from dozencloud.images.inspection import artefacts, shellscript
from dozencloud.images.inspection.model import Arch, Loader
from dozencloud.images.inspection.tree import Tree
from dozencloud.images.inspection.unpack import Blob

MAX_FOLDERS = 64
MAX_LOADERS = 256
"""Files that are looked at; an image for three architectures has a dozen."""

REMOVABLE = {
    "bootaa64.efi": Arch.AARCH64,
    "bootarm.efi": Arch.ARMV7L,
    "bootx64.efi": Arch.X86_64,
    "bootia32.efi": Arch.I686,
    "bootriscv64.efi": Arch.RISCV64,
}
"""Programs that firmware starts from a disk that it sees for the first time, as every new server's
is (UEFI 2.10, table 3-3: removable media); it looks on any FAT file system of the disk."""


def find(tree: Tree) -> list[Loader]:
    """The EFI programs under EFI/, in at most two levels of folders, and what a script starts."""
    call = shellscript.first_call(tree)
    scripted = call.path if call else ""
    paths = itertools.islice(_programs(tree), MAX_LOADERS)
    known = {path.lower(): path for path in paths}
    known.setdefault(scripted.lower(), scripted)
    found = (_loader(tree, path, path.lower() == scripted.lower()) for path in known.values())
    return [loader for loader in found if loader is not None]


def _loader(tree: Tree, path: str, scripted: bool) -> Loader | None:
    blob = Blob.of_path(tree, path)
    program = artefacts.efi_program(blob.read(0, artefacts.HEAD)) if blob else None
    return Loader(path, program.arch, blob.size, scripted) if blob and program else None


def _programs(tree: Tree) -> Iterator[str]:
    """What counts comes first, however many there are: the removable path, and its names there."""
    for top in tree.names(""):
        if top.lower() != "efi":
            continue
        folders = sorted(tree.names(top), key=lambda name: (name.lower() != "boot", name))
        for folder in folders[:MAX_FOLDERS]:
            names = tree.names(f"{top}/{folder}")
            for name in sorted(names, key=lambda name: (name.lower() not in REMOVABLE, name)):
                if name.lower().endswith(".efi"):
                    yield f"{top}/{folder}/{name}"


def removable(loader: Loader) -> Arch | None:
    """The architecture whose firmware starts this program by its place; None for any other."""
    folder, _, name = loader.path.lower().rpartition("/")
    return REMOVABLE.get(name) if folder == "efi/boot" else None


def started(loader: Loader) -> Arch | None:
    """The architecture whose firmware starts this program, itself or by its shell; else None."""
    return removable(loader) or (loader.arch if loader.scripted else None)
