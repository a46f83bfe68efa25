"""Module dependencies, on small ELF files made here."""

from __future__ import annotations

import lzma
import struct
from pathlib import Path

import pytest

from dozencloud.images.formats import kmod
from dozencloud.images.formats.elf import Elf, NotElf


def module(depends: str, *, wide: bool = True) -> bytes:
    """A relocatable ELF file with a .modinfo section and nothing else."""
    info = b"license=GPL\0depends=" + depends.encode() + b"\0name=x\0"
    names = b"\0.modinfo\0.shstrtab\0"
    header = 64 if wide else 52
    sections = [(0, 0, 0), (1, header, len(info)), (10, header + len(info), len(names))]
    table = header + len(info) + len(names)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    if wide:
        head = struct.pack("<HHIQQQIHHHHHH", 1, 183, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
        rows = [struct.pack("<IIQQQQIIQQ", n, 1, 0, 0, o, s, 0, 0, 1, 0) for n, o, s in sections]
    else:
        head = struct.pack("<HHIIIIIHHHHHH", 1, 40, 1, 0, 0, table, 0, 52, 0, 0, 40, 3, 2)
        rows = [struct.pack("<IIIIIIIIII", n, 1, 0, 0, o, s, 0, 0, 1, 0) for n, o, s in sections]
    return ident + head + info + names + b"".join(rows)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """virtio_net needs net_failover needs failover; sr-mod needs scsi_mod twice over."""
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    folder = tmp_path / "kernel/drivers"
    folder.mkdir(parents=True)
    for name, depends in {
        "virtio_net": "net_failover",
        "net_failover": "failover",
        "failover": "",
        "sr-mod": "scsi_mod,cdrom",
        "cdrom": "scsi_mod",
        "scsi_mod": "",
        "unwanted": "",
    }.items():
        (folder / f"{name}.ko.xz").write_bytes(lzma.compress(module(depends)))
    (folder / "plain.ko").write_bytes(module("failover", wide=False))
    return tmp_path


def names(modules: list[kmod.Module]) -> list[str]:
    return [each.name for each in modules]


def test_what_a_module_needs_comes_before_it(tree: Path) -> None:
    assert names(kmod.closure(tree, ["virtio_net"])) == ["failover", "net_failover", "virtio_net"]


def test_each_module_comes_once_and_only_if_needed(tree: Path) -> None:
    assert names(kmod.closure(tree, ["sr_mod", "plain", "cdrom"])) == [
        "scsi_mod",
        "cdrom",
        "sr_mod",
        "failover",
        "plain",
    ]


def test_a_built_in_driver_needs_no_file(tree: Path) -> None:
    assert kmod.closure(tree, ["ext4"]) == []


def test_a_module_that_does_not_exist_is_named(tree: Path) -> None:
    with pytest.raises(kmod.MissingModule) as caught:
        kmod.closure(tree, ["no-such"])
    assert caught.value.name == "no_such"


def test_modules_are_stored_uncompressed_under_their_own_path(tree: Path) -> None:
    (only,) = kmod.closure(tree, ["failover"])
    assert only.path == "kernel/drivers/failover.ko"
    assert only.data[:4] == b"\x7fELF"


def test_modules_dep_lists_what_is_needed_first_last(tree: Path) -> None:
    text = kmod.modules_dep(kmod.closure(tree, ["sr_mod"]))
    d = "kernel/drivers"
    assert text.splitlines() == [
        f"{d}/scsi_mod.ko:",
        f"{d}/cdrom.ko: {d}/scsi_mod.ko",
        f"{d}/sr-mod.ko: {d}/cdrom.ko {d}/scsi_mod.ko",
    ]


@pytest.mark.parametrize("wide", [True, False])
def test_modinfo_of_both_word_sizes(wide: bool) -> None:
    assert kmod.modinfo(module("a,b", wide=wide)) == {
        "license": "GPL",
        "depends": "a,b",
        "name": "x",
    }


@pytest.mark.parametrize("data", [b"", b"MZ", b"\x7fELF" + bytes(80), b"\x7fELF\2\2" + bytes(80)])
def test_other_bytes_are_no_elf(data: bytes) -> None:
    with pytest.raises(NotElf):
        Elf(data)
