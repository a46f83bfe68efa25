"""What boot loaders' configurations say: which kernel, with which arguments.

Only what decides is read: GRUB's language is not run, its last assignment of a variable wins.
Sources: GRUB manual, chapters 5 and 6; UAPI group "Boot Loader Specification" (BLS); U-Boot
doc/develop/distro.rst and the syslinux wiki (extlinux.conf); Raspberry Pi "config.txt".
Several initial RAM disks are loaded one behind the other, in the order of the entry.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dozencloud.images.inspection import shellscript
from dozencloud.images.inspection.tree import Tree

LIMIT = 512 << 10
"""Bytes read of one configuration; a grub.cfg of forty kernels has 60 KB."""
MAX_LINE = 8192
MAX_ENTRIES = 256

GRUB_PATHS = (
    "boot/grub/grub.cfg",
    "boot/grub2/grub.cfg",
    "grub/grub.cfg",
    "grub2/grub.cfg",
    "grub.cfg",
    "EFI/BOOT/grub.cfg",
)
ENTRIES_FOLDERS = ("boot/loader/entries", "loader/entries")
EXTLINUX_PATHS = (
    "boot/extlinux/extlinux.conf",
    "extlinux/extlinux.conf",
    "boot/extlinux.conf",
    "extlinux.conf",
)
GRUB_LINE = re.compile(r"(?:menuentry|set|blscfg|linux|initrd)|.*[{}]")
"""Lines of a grub.cfg that matter; splitting the others into words would take most of the time."""
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Entry:
    """One thing to boot. kernel, initrds: paths as the loader names them. arguments: split."""

    name: str = ""
    title: str = ""
    kernel: str = ""
    initrds: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    version: str = ""


def default_entry(tree: Tree) -> Entry | None:
    """The entry that a boot loader, configured in this file system, starts by itself."""
    environment = _grubenv(tree)
    for path in (*GRUB_PATHS, *_vendor_paths(tree)):
        text = tree.text(path, LIMIT)
        if text and (entry := _from_grub(tree, text, environment)):
            return entry
    return (
        _from_entries(tree, environment)
        or _from_extlinux(tree)
        or _raspberry(tree)
        or _from_shell(tree)
    )


def _vendor_paths(tree: Tree) -> list[str]:
    return [f"EFI/{name}/grub.cfg" for name in tree.names("EFI")[:16]]


def _from_grub(tree: Tree, text: str, environment: dict[str, str]) -> Entry | None:
    menu = parse_grub(text, environment)
    entries = [entry for entry in menu.entries if entry.kernel]
    if menu.blscfg and (entry := _from_entries(tree, menu.variables)):
        return entry
    if not entries:
        return None
    wanted = menu.variables.get("default", "0")
    chosen = _chosen(menu.entries, wanted.split(">")[-1])
    return chosen if chosen and chosen.kernel else entries[0]


def _chosen(entries: tuple[Entry, ...], wanted: str) -> Entry | None:
    for entry in entries:
        if wanted and wanted in (entry.name, entry.title):
            return entry
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 4 and int(wanted) < len(entries):
        return entries[int(wanted)]
    return None


@dataclass(frozen=True)
class Menu:
    """A grub.cfg. variables: as they stand at its end. blscfg: it asks for the BLS entries."""

    entries: tuple[Entry, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    blscfg: bool = False


def parse_grub(text: str, environment: dict[str, str]) -> Menu:
    """Read a grub.cfg; environment: of grubenv, which counts as set at its beginning."""
    variables = dict(environment)
    entries: list[Entry] = []
    current: Entry | None = None
    # Commands outside of any menu entry boot too: what GRUB's own shell scripts do.
    loose = Entry()
    depth = 0
    blscfg = False
    for words in _grub_commands(text):
        command = words[0]
        if command == "menuentry" and len(entries) < MAX_ENTRIES:
            current, depth = Entry(_option(words, "--id"), words[1] if len(words) > 1 else ""), 0
        elif command == "blscfg":
            blscfg = True
        elif command == "set" and len(words) > 1:
            name, _, value = words[1].partition("=")
            if value or name not in variables:
                variables[name] = expand(value, variables)
        elif current is not None:
            current = _command(current, words, variables)
        else:
            loose = _command(loose, words, variables)
        if current is not None:
            depth += words.count("{") - words.count("}")
            if depth <= 0 and "}" in words:
                entries.append(current)
                current = None
    if not entries and loose.kernel:
        entries = [loose]
    return Menu(tuple(entries), variables, blscfg)


def _command(entry: Entry, words: list[str], variables: dict[str, str]) -> Entry:
    """The entry after a line of GRUB's language; only `linux` and `initrd` change it."""
    if words[0] in ("linux", "linuxefi", "linux16") and len(words) > 1:
        named = [expand(word, variables) for word in words[1:] if word != "}"]
        arguments = tuple(part for word in named[1:] for part in word.split())
        return replace(entry, kernel=grub_path(named[0]), arguments=arguments)
    if words[0] in ("initrd", "initrdefi", "initrd16"):
        named = [expand(word, variables) for word in words[1:] if word != "}"]
        paths = [grub_path(path) for word in named for path in word.split()]
        # A second command takes the place of the first (grub-core/loader: each has its own list).
        return replace(entry, initrds=tuple(path for path in paths if path))
    return entry


def grub_path(path: str) -> str:
    """A path without the device in front of it: ($root)/vmlinuz."""
    return re.sub(r"^\([^)]*\)", "", path)


def expand(text: str, variables: dict[str, str]) -> str:
    """Variables replaced once; what is not set becomes empty."""
    return VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), text)[:MAX_LINE]


def _grub_commands(text: str) -> Iterator[list[str]]:
    """Each command as words. A line may hold several, and go on behind a backslash."""
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in _words(line):
            if word != ";":
                words.append(word)
            if words and word in (";", "{"):
                yield words
                words = []
        if words:
            yield words


def _words(line: str) -> list[str]:
    """A line of shell-like words; empty for a comment or one that is no such line."""
    line = line.strip()
    if len(line) > MAX_LINE or not GRUB_LINE.match(line) or line.startswith("#"):
        return []
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:
        return line.split()


def _option(words: list[str], name: str) -> str:
    for at, word in enumerate(words[:-1]):
        if word in (name, f"${name.lstrip('-')}", "$menuentry_id_option"):
            return words[at + 1]
    return ""


def _grubenv(tree: Tree) -> dict[str, str]:
    """Variables that GRUB keeps between boots; the default may be among them."""
    for path in ("boot/grub/grubenv", "boot/grub2/grubenv", "grub/grubenv", "grub2/grubenv"):
        text = tree.text(path, 4096)
        if text:
            pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
            return {name: value for name, equal, value in pairs if equal}
    return {}


def _from_entries(tree: Tree, variables: dict[str, str]) -> Entry | None:
    for folder in ENTRIES_FOLDERS:
        names = [name for name in tree.names(folder) if name.endswith(".conf")]
        # The specification's order is by version; names carry it, and the rescue entry has none.
        names.sort(key=lambda name: (not _rescue(name), natural(name)), reverse=True)
        entries = [
            parse_bls(tree.text(f"{folder}/{name}", LIMIT), name, variables)
            for name in names[:MAX_ENTRIES]
        ]
        bootable = [entry for entry in entries if entry.kernel]
        if bootable:
            loader = tree.text(f"{folder.removesuffix('/entries')}/loader.conf", LIMIT)
            return _preferred(bootable, loader, variables.get("saved_entry", ""))
    return None


def _rescue(name: str) -> bool:
    return "rescue" in name


def _preferred(entries: list[Entry], loader_conf: str, saved: str) -> Entry:
    pattern = re.search(r"^default\s+(\S+)", loader_conf, re.MULTILINE)
    for wanted in (saved, pattern[1].removesuffix(".conf") if pattern else ""):
        for entry in entries:
            if wanted and fnmatch.fnmatchcase(entry.name, wanted):
                return entry
    return entries[0]


def parse_bls(text: str, name: str = "", variables: dict[str, str] | None = None) -> Entry:
    """One file of loader/entries. A kernel inside of a unified image counts as its `efi`."""
    kernel, title, version = "", "", ""
    initrds: list[str] = []
    arguments: list[str] = []
    for line in text.splitlines():
        key, _, value = line.strip().replace("\t", " ")[:MAX_LINE].partition(" ")
        value = value.strip()
        if key in ("linux", "efi", "uki"):
            kernel = kernel or value
        elif key == "initrd":
            initrds += expand(value, variables or {}).split()[:16]
        elif key == "options":
            arguments += expand(value, variables or {}).split()
        elif key == "title":
            title = value
        elif key == "version":
            version = value
    plain = re.sub(r"(\+\d+(-\d+)?)?\.conf$", "", name)
    return Entry(plain, title, kernel, tuple(initrds), tuple(arguments), version)


def _from_extlinux(tree: Tree) -> Entry | None:
    for path in EXTLINUX_PATHS:
        text = tree.text(path, LIMIT)
        if text and (entry := parse_extlinux(text)):
            folder = path.rpartition("/")[0]
            # A path without a leading slash is beside the configuration.
            return replace(
                entry,
                kernel=_beside(folder, entry.kernel),
                initrds=tuple(_beside(folder, each) for each in entry.initrds),
            )
    return None


def _beside(folder: str, path: str) -> str:
    return path if path.startswith("/") else f"/{folder}/{path}"


def parse_extlinux(text: str) -> Entry | None:
    """The default entry of an extlinux.conf."""
    default = ""
    entries: list[Entry] = []
    for line in text.splitlines():
        key, _, value = line.strip().replace("\t", " ")[:MAX_LINE].partition(" ")
        key, value = key.lower(), value.strip()
        if key == "default":
            default = value
        elif key == "label" and len(entries) < MAX_ENTRIES:
            entries.append(Entry(value))
        elif entries and key in ("kernel", "linux"):
            entries[-1] = replace(entries[-1], kernel=value)
        elif entries and key in ("initrd", "initramfs"):
            entries[-1] = replace(entries[-1], initrds=_listed(value))
        elif entries and key == "append":
            entries[-1] = replace(entries[-1], arguments=tuple(value.split()))
    bootable = [_with_named_initrds(entry) for entry in entries if entry.kernel]
    return next((entry for entry in bootable if entry.name == default), next(iter(bootable), None))


def _listed(value: str) -> tuple[str, ...]:
    return tuple(path for each in value.split(",") if (path := each.strip()))


def _with_named_initrds(entry: Entry) -> Entry:
    """The initrds among the arguments, where the loader or the kernel's EFI stub reads them."""
    if entry.initrds:
        return entry
    values = [a.partition("=")[2] for a in entry.arguments if a.startswith("initrd=")]
    paths = tuple(path.replace("\\", "/") for value in values for path in _listed(value))
    return replace(entry, initrds=paths)


def _from_shell(tree: Tree) -> Entry | None:
    """A kernel that the firmware's shell starts, by its EFI stub."""
    call = shellscript.first_call(tree)
    if call is None:
        return None
    return _with_named_initrds(Entry(kernel=f"/{call.path}", arguments=call.arguments))


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
        return tuple(f"/{path}" for path in _listed(named[-1]))
    if re.search(r"^auto_initramfs=1\b", text, re.MULTILINE):
        return (f"/{kernel.lower().removesuffix('.img').replace('kernel', 'initramfs', 1)}",)
    return ()


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts 6.10 behind 6.9."""
    parts = re.findall(r"\d+|\D+", text)[:64]
    return tuple((int(part[:18]), "") if part[0] in "0123456789" else (-1, part) for part in parts)
