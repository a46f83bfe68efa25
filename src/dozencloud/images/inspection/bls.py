"""Entries of the Boot Loader Specification: what systemd-boot, and GRUB by `blscfg`, show.

Source: UAPI group, "Boot Loader Specification". Type 1 is a file of loader/entries, type 2 a
unified kernel image in EFI/Linux.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dozencloud.images.inspection import artefacts, systems
from dozencloud.images.inspection.bootentry import (
    LIMIT,
    MAX_ENTRIES,
    MAX_LINE,
    Entry,
    named_initrds,
    natural,
    slashes,
)
from dozencloud.images.inspection.grub import UNKNOWN, expand
from dozencloud.images.inspection.model import Arch, KernelKind
from dozencloud.images.inspection.tree import Tree
from dozencloud.images.inspection.unpack import Blob

FOLDERS = ("boot/loader/entries", "loader/entries")
UNIFIED = "EFI/Linux"
MAX_UNIFIED = 32
MAX_PATHS = 16
"""Initial RAM disks that one line names."""
ARCHITECTURES = ("", "aa64", "arm")
"""Those of entries that a loader for ARM shows."""
COUNTER = re.compile(r"(?:\+(?P<left>\d+)(?:-\d+)?)?\.(?:conf|efi)$", re.IGNORECASE)


@dataclass(frozen=True)
class Listed:
    """An entry with what its place in the menu follows from. tries: left of boot counting."""

    entry: Entry
    sort_key: str = ""
    machine: str = ""
    architecture: str = ""
    tries: int = 1


def default_entry(
    tree: Tree, variables: dict[str, str] | None = None, *, unified: bool = True
) -> Entry | None:
    """The entry that starts by itself. variables: of GRUB, which lists no unified images."""
    variables = variables or {}
    for folder in FOLDERS:
        found = list(_files(tree, folder, variables))
        if unified and not folder.startswith("boot/"):
            found += _images(tree)
        entries = [one.entry for one in _in_order(found) if one.entry.kernel]
        if entries:
            settings = tree.text(f"{folder.removesuffix('/entries')}/loader.conf", LIMIT)
            return _preferred(entries, settings, variables.get("saved_entry", ""))
    return None


def _files(tree: Tree, folder: str, variables: dict[str, str]) -> Iterator[Listed]:
    # The short names of a FAT may be in capitals.
    names = [name for name in tree.names(folder) if name.lower().endswith(".conf")]
    names.sort(key=natural, reverse=True)
    for name in names[:MAX_ENTRIES]:
        one = parse(tree.text(f"{folder}/{name}", LIMIT), name, variables)
        if one.architecture in ARCHITECTURES:
            yield one


def _images(tree: Tree) -> Iterator[Listed]:
    names = [name for name in tree.names(UNIFIED) if name.lower().endswith(".efi")]
    for name in names[:MAX_UNIFIED]:
        blob = Blob.of_path(tree, f"{UNIFIED}/{name}")
        image = artefacts.identify(blob) if blob else None
        if image is None or image.kind is not KernelKind.UKI:
            continue
        if image.arch not in (Arch.AARCH64, Arch.ARMV7L):
            continue
        about = systems.parse_os_release(image.os_release)
        version = about.get("IMAGE_VERSION") or about.get("VERSION_ID", "")
        entry = Entry(_plain(name), kernel=f"/{UNIFIED}/{name}", version=version)
        yield Listed(entry, about.get("IMAGE_ID") or about.get("ID", ""), tries=_tries(name))


def _in_order(found: Sequence[Listed]) -> list[Listed]:
    """As the specification sorts them; a rescue entry, of GRUB's, comes last."""
    ordered = sorted(found, key=lambda one: natural(one.entry.name), reverse=True)
    ordered.sort(key=lambda one: natural(one.entry.version if one.sort_key else ""), reverse=True)
    ordered.sort(
        key=lambda one: (
            not one.tries,
            "rescue" in one.entry.name,
            not one.sort_key,
            one.sort_key,
            one.machine,
        )
    )
    return ordered


def _preferred(entries: Sequence[Entry], settings: str, saved: str) -> Entry:
    patterns = re.findall(r"^[ \t]*default[ \t]+(\S+)", settings, re.MULTILINE)
    for wanted in (saved, patterns[-1] if patterns else ""):
        pattern = wanted.lower().removesuffix(".conf")
        for entry in entries:
            if pattern and fnmatch.fnmatchcase(entry.name.lower(), pattern):
                return entry
    return entries[0]


def parse(text: str, name: str = "", variables: dict[str, str] | None = None) -> Listed:
    """One file of loader/entries."""
    variables = variables or {}
    keys: dict[str, str] = {}
    paths: list[str] = []
    arguments: list[str] = []
    for line in text.splitlines():
        key, _, value = line.strip().replace("\t", " ")[:MAX_LINE].partition(" ")
        value = value.strip()
        if key in ("initrd", "extra"):
            paths += expand(value, variables).split()[:MAX_PATHS]
        elif key == "options":
            arguments += expand(value, variables).split()
        elif key in ("efi", "uki"):
            keys.setdefault("linux", value)
        elif len(keys) < MAX_ENTRIES:
            keys.setdefault(key, value)
    kernel = slashes(keys.get("linux", ""))
    early = expand(variables.get("early_initrd", ""), {}).split()[:MAX_PATHS]
    folder = kernel.rpartition("/")[0]
    paths[:0] = [path if path.startswith("/") else f"{folder}/{path}" for path in early]
    known = [slashes(path) for path in paths if UNKNOWN not in path]
    entry = Entry(
        _plain(name),
        keys.get("title", ""),
        kernel,
        (*known, *named_initrds(arguments)),
        tuple(argument.replace(UNKNOWN, "") for argument in arguments),
        keys.get("version", ""),
        sure=len(known) == len(paths),
    )
    architecture = keys.get("architecture", "").lower()
    return Listed(
        entry, keys.get("sort-key", ""), keys.get("machine-id", ""), architecture, _tries(name)
    )


def _plain(name: str) -> str:
    """The name by which a loader calls the entry: without its counter of tries, nor .conf."""
    suffix = ".efi" if name.lower().endswith(".efi") else ""
    return COUNTER.sub("", name) + suffix


def _tries(name: str) -> int:
    found = COUNTER.search(name)
    return int(found["left"][:9]) if found and found["left"] else 1
