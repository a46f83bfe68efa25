"""The image catalogue: its data, and what is decided without a network."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dozencloud.errors import Problem
from dozencloud.images import catalogue
from dozencloud.images.catalogue import Choice, Entry, Kind, entries, resolve, signature, sums
from dozencloud.images.catalogue.fetch import file_name
from dozencloud.images.inspection.model import Arch, Boot

ENTRIES = catalogue.load()
CHOICES = [
    Choice(entry, file, arch) for entry in ENTRIES for file in entry.files for arch in file.arch
]


def choice_id(choice: Choice) -> str:
    return f"{choice.entry.name}-{choice.file.kind}-{choice.arch}"


def test_names_are_unique_and_the_great_ones_are_there() -> None:
    names = [entry.name for entry in ENTRIES]
    assert len(names) == len(set(names))
    assert {"debian-13", "ubuntu-24.04", "fedora-44", "alpine-3.23", "rocky-10"} <= set(names)
    assert {"almalinux-10", "centos-stream-10", "archlinuxarm", "freebsd-15"} <= set(names)


@pytest.mark.parametrize("choice", CHOICES, ids=choice_id)
def test_every_file_has_an_address_and_a_proof(choice: Choice) -> None:
    mirror = choice.entry.source.mirror
    assert mirror.startswith("https://")
    url = choice.render(choice.file.url, mirror=mirror)
    assert "{" not in re.sub(r"<[^>]*>", "", url)
    assert urlsplit(url).hostname == urlsplit(mirror).hostname
    assert choice.arch in (Arch.AARCH64, Arch.ARMV7L, Arch.ARMV6)
    expected = {Kind.VM: Boot.UEFI, Kind.CONTAINER: Boot.ROOTFS}
    assert choice.file.boot == expected.get(choice.file.kind, Boot.NONE)
    assert choice.entry.user
    assert choice.file.memory >= 64
    assert bool(choice.file.key) != bool(choice.file.unsigned)


@pytest.mark.parametrize(
    ("name", "arch", "kind", "url"),
    [
        (
            "debian-13",
            Arch.AARCH64,
            Kind.VM,
            "https://cloud.debian.org/images/cloud/trixie/latest/debian-13-genericcloud-arm64.qcow2",
        ),
        (
            "ubuntu-24.04",
            Arch.ARMV7L,
            Kind.VM,
            "https://cloud-images.ubuntu.com/releases/noble/release/ubuntu-24.04-server-cloudimg-armhf.img",
        ),
        (
            "ubuntu-26.04",
            Arch.AARCH64,
            Kind.KERNEL,
            "https://cloud-images.ubuntu.com/releases/resolute/release/unpacked/ubuntu-26.04-server-cloudimg-arm64-vmlinuz-generic",
        ),
        (
            "fedora-44",
            Arch.AARCH64,
            Kind.VM,
            r"https://dl.fedoraproject.org/pub/fedora/linux/releases/44/Cloud/aarch64/images/Fedora-Cloud-Base-Generic-44-<[\d.]+>.aarch64.qcow2",
        ),
        (
            "alpine-3.23",
            Arch.ARMV6,
            Kind.CONTAINER,
            r"https://dl-cdn.alpinelinux.org/alpine/v3.23/releases/armhf/alpine-minirootfs-3.23.<\d+>-armhf.tar.gz",
        ),
    ],
)
def test_addresses(name: str, arch: Arch, kind: Kind, url: str) -> None:
    choice = catalogue.find(ENTRIES, name, arch, kind)
    assert choice.render(choice.file.url, mirror=choice.entry.source.mirror) == url


def public_key_fingerprints(keyring: bytes) -> set[str]:
    """Of the primary keys, version 4, in a binary keyring (RFC 4880, 4.2 and 12.2)."""
    found, at = set(), 0
    while at < len(keyring):
        head = keyring[at]
        if head & 0x40:
            tag, first = head & 0x3F, keyring[at + 1]
            if first < 192:
                size, at = first, at + 2
            elif first < 224:
                size, at = ((first - 192) << 8) + keyring[at + 2] + 192, at + 3
            else:
                size, at = int.from_bytes(keyring[at + 2 : at + 6]), at + 6
        else:
            tag, width = head >> 2 & 0xF, 1 << (head & 3)
            size, at = int.from_bytes(keyring[at + 1 : at + 1 + width]), at + 1 + width
        body, at = keyring[at : at + size], at + size
        if tag == 6:
            framed = b"\x99" + len(body).to_bytes(2) + body
            found.add(hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper())
    return found


def test_shipped_keys_are_the_ones_that_are_named() -> None:
    keys = {choice.file.key for choice in CHOICES if choice.file.key}
    shipped = {key for key in keys if key.file.is_relative_to(entries.KEYS)}
    assert len(shipped) >= 5
    for key in shipped:
        assert set(key.fingerprints) <= public_key_fingerprints(key.file.read_bytes()), key.name
    assert {key.file for key in shipped} == set(entries.KEYS.glob("*.gpg"))
    for key in keys - shipped:
        assert key.fingerprints[0] in key.get


def test_available_filters_by_architecture_and_kind() -> None:
    def names(**wanted: Any) -> set[str]:
        return {entry.name for entry in catalogue.available(ENTRIES, **wanted)}

    assert names() == {entry.name for entry in ENTRIES}
    assert names(arch=Arch.ARMV6) == {"alpine-3.22", "alpine-3.23", "alpine-3.24"}
    assert "ubuntu-24.04" in names(arch=Arch.ARMV7L, kind=Kind.VM)
    assert "debian-13" not in names(arch=Arch.ARMV7L)
    assert "archlinuxarm" not in names(kind=Kind.VM)
    assert names(arch=Arch.X86_64) == set()


@pytest.mark.parametrize(
    ("name", "arch", "kind", "words"),
    [
        ("ubunut-24.04", Arch.AARCH64, Kind.VM, "no image ubunut-24.04"),
        ("ubunut-24.04", Arch.AARCH64, Kind.VM, "Did you mean ubuntu-24.04"),
        ("plan9", Arch.AARCH64, Kind.VM, "dozen image list --available"),
        ("debian-13", Arch.ARMV7L, Kind.VM, "Debian 13 (trixie) is not published as vm for armv7l"),
        ("debian-13", Arch.ARMV7L, Kind.VM, "There is: vm for aarch64."),
    ],
)
def test_what_is_not_there_is_said(name: str, arch: Arch, kind: Kind, words: str) -> None:
    with pytest.raises(Problem) as caught:
        catalogue.find(ENTRIES, name, arch, kind)
    assert words in str(caught.value)


def test_names_are_found_in_any_case() -> None:
    assert catalogue.find(ENTRIES, "Debian-13", Arch.AARCH64).entry.name == "debian-13"


@pytest.mark.parametrize(
    ("mirrors", "words"),
    [
        ({"debain": "https://example.org"}, "no image source debain"),
        ({"debian": "ftp://example.org"}, "'ftp://example.org' of debian is no web address"),
        ({"debian": "example.org/debian"}, "no web address"),
    ],
)
def test_mirrors_are_checked(mirrors: dict[str, str], words: str) -> None:
    catalogue.check_mirrors(ENTRIES, {"debian": "http://10.0.0.1/debian"})
    with pytest.raises(Problem, match=re.escape(words)):
        catalogue.check_mirrors(ENTRIES, mirrors)


SMALL = """
[source.a]
title = "A"
mirror = "https://a.example/x"
[key.k]
fingerprints = ["0123456789ABCDEF0123456789ABCDEF01234567"]
file = "k.gpg"
[layout.l]
kind = "vm"
boot = "uefi"
arch = { aarch64 = "arm64" }
url = "{mirror}/{release}/a-<[0-9]+>.{arch}.img"
sums = "{folder}/SUMS"
signature = "{folder}/SUMS.gpg"
key = "k"
memory = 512
[[image]]
name = "a-1"
title = "A 1"
source = "a"
user = "me"
layouts = ["l"]
values = { release = "1" }
"""


def read(text: str, folder: Path) -> tuple[Entry, ...]:
    path = folder / "small.toml"
    path.write_text(text)
    return catalogue.load(path)


def test_a_small_catalogue(tmp_path: Path) -> None:
    (entry,) = read(SMALL, tmp_path)
    assert (entry.architectures, entry.kinds) == ((Arch.AARCH64,), (Kind.VM,))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[source.a]", "[source.b]", "image a-1: there is no [source.a]"),
        ('mirror = "https://a.example/x"', 'mirror = "a.example"', "source a: mirror must be"),
        ('mirror = "https://a.example/x"', 'mirror = "https://a/"', "without a slash"),
        ("0123456789ABCDEF0123456789ABCDEF01234567", "7DB87C81", "key k: a fingerprint is 40"),
        ('file = "k.gpg"', 'file = "/k.gpg"', "key k: a key that is not shipped needs get"),
        ("[key.k]", "[key.other]", "layout l: there is no [key.k]"),
        ('kind = "vm"', 'kind = "disk"', "disk is none of vm, container"),
        ('boot = "uefi"', 'boot = "bios"', "bios is none of uefi"),
        ("aarch64 =", "arm64 =", "arm64 is none of aarch64"),
        ('{ aarch64 = "arm64" }', "{}", "no architecture is left"),
        ("memory = 512", 'memory = "512"', "memory must be a number"),
        ("memory = 512", "memory = 512\nsize = 1", "nothing is called size"),
        ("[0-9]+", "[0-9+", "has a bad pattern"),
        ('release = "1"', 'relase = "1"', "needs a value for 'release'"),
        ('release = "1"', "release = 1", "values must be a table of texts"),
        ('key = "k"', "", "need each other"),
        ('signature = "{folder}/SUMS.gpg"\nkey = "k"', "", "unsigned says why not"),
        ('key = "k"', 'key = "k"\nunsigned = "lazy"', "unsigned says why not"),
        ('key = "k"', 'key = "k"\nclearsigned = true', "exclude each other"),
        ('key = "k"', 'key = "k"\nproduct = { name = "n" }', "has a name and an item"),
        ('key = "k"', 'key = "k"\nproduct = { name = "n", item = "i" }', "have no place"),
        ('name = "a-1"', 'name = "A 1"', "small letters"),
        ('title = "A 1"', "", "image a-1: title must be a text"),
        ('layouts = ["l"]', "layouts = []", "layouts must be a list"),
        ('layouts = ["l"]', 'layouts = ["l", "l"]', "two layouts offer the same kind"),
        ('layouts = ["l"]', 'layouts = ["l"]\narch = ["armv6"]', "no architecture is left"),
        ("[[image]]", "[[image", "cannot be read"),
    ],
)
def test_a_mistake_in_the_catalogue_is_named(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in SMALL
    with pytest.raises(Problem) as caught:
        read(SMALL.replace(old, new), tmp_path)
    assert words in caught.value.what


def test_a_name_that_stands_twice(tmp_path: Path) -> None:
    image = SMALL[SMALL.index("[[image]]") :]
    with pytest.raises(Problem, match="the name is there twice"):
        read(SMALL + image, tmp_path)


def test_the_catalogue_has_no_layout_or_source_that_nobody_uses() -> None:
    data = tomllib.loads(entries.CATALOGUE.read_text())
    assert set(data["layout"]) == {each for image in data["image"] for each in image["layouts"]}
    assert set(data["source"]) == {image["source"] for image in data["image"]}
    assert set(data["key"]) == {choice.file.key.name for choice in CHOICES if choice.file.key}


A, B = "a" * 64, "b" * 64
LONG = "c" * 128


@pytest.mark.parametrize(
    ("text", "alone", "expected"),
    [
        (f"{A}  x.img\n{B}  y.img\n", False, f"sha256:{A}"),
        (f"{A} *x.img\n", False, f"sha256:{A}"),
        (f"{A}  ./x.img\n", False, f"sha256:{A}"),
        (f"{A.upper()}  x.img\r\n", False, f"sha256:{A}"),
        (f"# x.img: 5 bytes\nSHA256 (x.img) = {A}\n", False, f"sha256:{A}"),
        (f"SHA256 (x.img) = {A}\nSHA512 (x.img) = {LONG}\n", False, f"sha512:{LONG}"),
        (f"{LONG}\n", True, f"sha512:{LONG}"),
        (f"{LONG}\n", False, ""),
        (f"{A}  x-Build16.2.img\n", True, f"sha256:{A}"),
        (f"{A}  x-Build16.2.img\n", False, ""),
        (f"{A}  x.img\n{B}  x.img\n", False, ""),
        (f"{A}  z.img\n{B}  y.img\n", True, ""),
        (f"{'d' * 32}  x.img\n", True, ""),
        (f"SHA256 (x.img) = {'d' * 40}\n", True, ""),
        (f"{A}  x.img.asc\n", False, ""),
        ("<html>404</html>", True, ""),
        ("", True, ""),
    ],
)
def test_sums_are_read_in_every_style(text: str, alone: bool, expected: str) -> None:
    assert sums.pick(text, "x.img", alone=alone) == expected


GOOD = (
    "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 1A5D UEC Image <c@u.com>\n[GNUPG:] VALIDSIG {0} 1 2 3 {0}\n"
)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (GOOD.format("AB"), "UEC Image <c@u.com> (AB)"),
        (GOOD.format("CD"), ""),
        (GOOD.format("AB").replace("GOODSIG", "EXPKEYSIG"), ""),
        (GOOD.format("AB").replace("GOODSIG", "REVKEYSIG"), ""),
        (GOOD.format("AB") + "[GNUPG:] NEWSIG\n[GNUPG:] ERRSIG 12\n", "UEC Image <c@u.com> (AB)"),
        (GOOD.format("AB") + "[GNUPG:] NEWSIG\n[GNUPG:] BADSIG 12 X\n", ""),
        ("[GNUPG:] VALIDSIG AB 1 2 3 AB\n", ""),
        ("[GNUPG:] NODATA 4\n", ""),
        ("\n[GNUPG:]\n", ""),
        ("", ""),
    ],
)
def test_only_a_good_signature_by_a_pinned_key_counts(status: str, expected: str) -> None:
    assert signature._signer(status, ("AB",)) == expected


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        (["x-1.9", "x-1.10", "x-1.2"], "x-1.10"),
        (["20260901_05:24", "20261002_05:24", "20260930_23:59"], "20261002_05:24"),
        (["14.5-RELEASE", "14.10-RELEASE"], "14.10-RELEASE"),
    ],
)
def test_the_newest_name_is_the_one_with_the_greatest_numbers(
    names: list[str], newest: str
) -> None:
    assert max(names, key=resolve._age) == newest


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("debian-13-genericcloud-arm64.qcow2", "debian-13-aarch64-vm.qcow2"),
        ("ubuntu-24.04-server-cloudimg-arm64-root.tar.xz", "debian-13-aarch64-vm.tar.xz"),
        ("openSUSE-Tumbleweed-ARM-JeOS-efi.armv7l.raw.xz", "debian-13-aarch64-vm.raw.xz"),
        ("ubuntu-24.04-server-cloudimg-arm64-vmlinuz-generic", "debian-13-aarch64-vm"),
        ("../../etc/passwd", "debian-13-aarch64-vm"),
    ],
)
def test_file_names_are_ours(theirs: str, ours: str) -> None:
    assert file_name(catalogue.find(ENTRIES, "debian-13", Arch.AARCH64), theirs) == ours
