"""What boot loaders' configurations say: which kernel, with which arguments.

Each loader's own language is read by a module of its own, or, where it is short, here. Sources:
U-Boot doc/develop/distro.rst and the syslinux wiki (extlinux.conf); Raspberry Pi "config.txt".
Several initial RAM disks are loaded one behind the other, in the order of the entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dozencloud.images.inspection import bls, shellscript
from dozencloud.images.inspection.bootentry import (
    LIMIT,
    MAX_ENTRIES,
    MAX_LINE,
    Entry,
    listed,
    named_initrds,
)
from dozencloud.images.inspection.grub import UNKNOWN, Script
from dozencloud.images.inspection.tree import Tree

GRUB_PATHS = (
    "boot/grub/grub.cfg",
    "boot/grub2/grub.cfg",
    "grub/grub.cfg",
    "grub2/grub.cfg",
    "grub.cfg",
    "EFI/BOOT/grub.cfg",
)
EXTLINUX_PATHS = (
    "boot/extlinux/extlinux.conf",
    "extlinux/extlinux.conf",
    "boot/extlinux.conf",
    "extlinux.conf",
)
MAX_INCLUDED = 16


def default_entry(tree: Tree, others: Sequence[Tree] = ()) -> Entry | None:
    """The entry that a boot loader, configured in this file system, starts by itself.

    others: the image's other file systems, in which a configuration may name files.
    """
    environment = _grubenv(tree)
    for path in (*GRUB_PATHS, *_vendor_paths(tree)):
        text = tree.text(path, LIMIT)
        if not text:
            continue
        script = Script((tree, *others), environment)
        script.run(text, path.rpartition("/")[0])
        listed_by_bls = script.blscfg and bls.default_entry(
            tree, script.state.variables, unified=False
        )
        if entry := listed_by_bls or script.chosen():
            return entry
    return (
        bls.default_entry(tree, environment)
        or _from_extlinux(tree)
        or _raspberry(tree)
        or _from_shell(tree)
    )


def _vendor_paths(tree: Tree) -> list[str]:
    return [f"EFI/{name}/grub.cfg" for name in tree.names("EFI")[:16]]


def _grubenv(tree: Tree) -> dict[str, str]:
    """Variables that GRUB keeps between boots; the default may be among them."""
    for path in ("boot/grub/grubenv", "boot/grub2/grubenv", "grub/grubenv", "grub2/grubenv"):
        text = tree.text(path, 4096).replace(UNKNOWN, "")
        if text:
            pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
            return {name: value for name, equal, value in pairs if equal}
    return {}


def _from_extlinux(tree: Tree) -> Entry | None:
    for path in EXTLINUX_PATHS:
        folder = path.rpartition("/")[0]
        if entry := parse_extlinux("\n".join(_with_included(tree, path, folder))):
            # A path without a leading slash is beside the configuration.
            return replace(
                entry,
                kernel=_beside(folder, entry.kernel),
                initrds=tuple(_beside(folder, each) for each in entry.initrds),
            )
    return None


def _with_included(tree: Tree, path: str, folder: str) -> Iterator[str]:
    """The lines of a configuration, those of files that it includes in their place."""
    todo = [iter(tree.text(path, LIMIT).splitlines())]
    left = MAX_INCLUDED
    while todo:
        line = next(todo[-1], None)
        if line is None:
            todo.pop()
            continue
        words = line.replace("\t", " ").split(maxsplit=2)
        if words[:1] and words[0].lower() == "menu":
            words = words[1:]
        if len(words) > 1 and words[0].lower() == "include" and left:
            left -= 1
            included = _beside(folder, words[1])
            todo.append(iter(tree.text(included, LIMIT).splitlines()))
        else:
            yield line


def _beside(folder: str, path: str) -> str:
    return path if path.startswith("/") else f"/{folder}/{path}"


def parse_extlinux(text: str) -> Entry | None:
    """The default entry of an extlinux.conf."""
    default = ""
    common: tuple[str, ...] = ()
    entries: list[Entry] = []
    for line in text.splitlines():
        key, _, value = line.strip().replace("\t", " ")[:MAX_LINE].partition(" ")
        key, value = key.lower(), value.strip()
        if key == "default":
            default = value
        elif key == "append" and not entries:
            common = tuple(value.split())
        elif key == "label" and len(entries) < MAX_ENTRIES:
            entries.append(Entry(value, arguments=common))
        elif entries:
            if key == "menu" and value.lower() == "default":
                default = entries[-1].name
            entries[-1] = _with_line(entries[-1], key, value)
    bootable = [
        replace(entry, initrds=entry.initrds or named_initrds(entry.arguments))
        for entry in entries
        if entry.kernel
    ]
    return next((entry for entry in bootable if entry.name == default), next(iter(bootable), None))


def _with_line(entry: Entry, key: str, value: str) -> Entry:
    if key in ("kernel", "linux"):
        return replace(entry, kernel=value)
    if key in ("initrd", "initramfs"):
        return replace(entry, initrds=listed(value))
    if key == "append":
        # A dash: nothing, not even what is common to all.
        return replace(entry, arguments=() if value == "-" else tuple(value.split()))
    return entry


def _from_shell(tree: Tree) -> Entry | None:
    """A kernel that the firmware's shell starts, by its EFI stub."""
    call = shellscript.first_call(tree)
    if call is None:
        return None
    return Entry(
        kernel=f"/{call.path}",
        initrds=named_initrds(call.arguments),
        arguments=call.arguments,
    )


def _raspberry(tree: Tree) -> Entry | None:
    """What the firmware of a Raspberry Pi starts; only the kernel's arguments are of use here."""
    if not tree.exists("config.txt") or not tree.exists("cmdline.txt"):
        return None
    # A short name of a FAT may be in capitals, whoever wrote it.
    kernels = {
        name.lower(): name
        for name in tree.names("")
        if re.fullmatch(r"kernel[\w.-]*\.img", name, re.IGNORECASE)
    }
    if not kernels:
        return None
    arguments = tree.text("cmdline.txt", MAX_LINE).split()
    kernel = kernels.get("kernel8.img") or [*kernels.values()][-1]
    return Entry(
        kernel=f"/{kernel}",
        initrds=_raspberry_initrds(tree, kernel),
        arguments=tuple(arguments),
    )


def _raspberry_initrds(tree: Tree, kernel: str) -> tuple[str, ...]:
    """`initramfs FILE[,FILE] ADDRESS`, or the one named like the kernel (auto_initramfs)."""
    text = tree.text("config.txt", LIMIT)
    named = re.findall(r"^initramfs[ \t]+(\S+)", text, re.MULTILINE)
    if named:
        return tuple(f"/{path}" for path in listed(named[-1]))
    if re.search(r"^auto_initramfs=1\b", text, re.MULTILINE):
        return (f"/{kernel.lower().removesuffix('.img').replace('kernel', 'initramfs', 1)}",)
    return ()
