"""Systems, and what their boot loaders are set up to start."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_kit import (
    AARCH64,
    AS_MODULE,
    BUILT_IN,
    ELF6,
    ELF7,
    ELF64,
    ELF_X86,
    NO_VIRTIO,
    Content,
    arm64_image,
    initrd,
    pe,
    root,
    with_kernel,
)

from dozencloud.images.inspection import bootconf, kernels, shellscript, systems
from dozencloud.images.inspection.bootconf import Entry
from dozencloud.images.inspection.kconfig import Config, drivers
from dozencloud.images.inspection.kernels import Place
from dozencloud.images.inspection.model import Arch
from dozencloud.images.inspection.tree import Files, Node, Tree

quick = settings(derandomize=True, deadline=timedelta(seconds=2), max_examples=150)


def tree(files: Content) -> Tree:
    return Tree(Files(files))


# --- os-release ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=Fedora", "Fedora"),
        ('NAME="Fedora Linux"', "Fedora Linux"),
        ("NAME='Fedora Linux'", "Fedora Linux"),
        (r'NAME="a \"b\" \$c"', 'a "b" $c'),
        ('  NAME="x"  ', "x"),
        ("# NAME=x", None),
        ('NAME="no end', None),
        ("name=x", None),
        ("NAME", None),
        ("NAME=", ""),
    ],
)
def test_os_release_quoting(line: str, value: str | None) -> None:
    assert systems.parse_os_release(line).get("NAME") == value


@quick
@given(st.text(max_size=300))
def test_os_release_of_any_text(text: str) -> None:
    assert all(len(value) <= 256 for value in systems.parse_os_release(text).values())


# --- the system ------------------------------------------------------------------------------

ARCHES: tuple[tuple[str, Content, Arch | None], ...] = (
    ("systemd through links", root(ELF7), Arch.ARMV7L),
    ("busybox init", {"sbin/init": "/bin/busybox", "bin/busybox": ELF6}, Arch.ARMV6),
    ("a script as init", {"sbin/init": b"#! /bin/sh -e\n", "bin/sh": ELF64}, Arch.AARCH64),
    ("a script of itself", {"sbin/init": b"#!/sbin/init\n", "usr/bin/env": ELF64}, Arch.AARCH64),
    ("a program only", {"usr/bin/hello": ELF_X86}, Arch.X86_64),
    ("dpkg's word", {"etc/os-release": b"ID=x", "var/lib/dpkg/arch": b"armhf\n"}, Arch.ARMV7L),
    ("apk's word", {"etc/os-release": b"ID=x", "etc/apk/arch": b"armhf\n"}, Arch.ARMV6),
    ("dpkg is no match for init", root(ELF7, var__lib__dpkg__arch=b"arm64\n"), Arch.ARMV7L),
    ("nothing", {"etc/os-release": b"ID=x"}, None),
    ("a link out of the image", {"sbin/init": "../../../../bin/sh"}, None),
)


@pytest.mark.parametrize(
    ("files", "arch"), [case[1:] for case in ARCHES], ids=[case[0] for case in ARCHES]
)
def test_architecture(files: Content, arch: Arch | None) -> None:
    assert systems.read_system(tree(files)).arch is arch


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ({"usr/bin/cloud-init": b""}, True),
        ({"usr/lib/systemd/system/cloud-init.service": b""}, True),
        ({"etc/init.d/tiny-cloud": b""}, True),
        ({"etc/cloud/cloud.cfg": b""}, False),
    ],
)
def test_cloud_init(files: Content, there: bool) -> None:
    assert systems.read_system(tree(files)).cloud_init is there


@pytest.mark.parametrize(
    ("fstab", "device"),
    [
        (b"UUID=1-2 / ext4 rw 0 1\n", "UUID=1-2"),
        (b"# UUID=x / ext4\nLABEL=root\t/\text4\n", "LABEL=root"),
        (b"/dev/sda2 / ext4\n", ""),
        (b"LABEL=home /home ext4\n", ""),
        (b"\xff\xfe/", ""),
    ],
)
def test_root_in_fstab(fstab: bytes, device: str) -> None:
    assert systems.root_argument(tree({"etc/fstab": fstab})) == device


# --- boot loaders ----------------------------------------------------------------------------

GRUB_DEBIAN = """
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="0"
fi
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
\tif [ x$grub_platform = xxen ]; then insmod xzio; fi
\tlinux\t/boot/vmlinuz-6.12 root=UUID=1 ro  console=tty0 console=ttyAMA0,115200
\tinitrd\t/boot/initrd.img-6.12
}
submenu 'Advanced' $menuentry_id_option 'gnulinux-advanced-1' {
\tmenuentry 'Debian, old' $menuentry_id_option 'gnulinux-6.1' {
\t\tlinux ($root)/boot/vmlinuz-6.1 root=UUID=1 ro
\t\tinitrd /boot/initrd.img-6.1
\t}
}
"""
BLS = """title Fedora Linux (6.12)
version 6.12.0-300.fc43.aarch64
linux /vmlinuz-6.12
initrd /initramfs-6.12.img $tuned_initrd
options root=UUID=2 $kernelopts ${tuned_params}
"""
EXTLINUX = """default new
label old
    kernel ../vmlinuz-old
label new
    LINUX ../vmlinuz-new
    INITRD /initrd-new
    APPEND root=LABEL=x console=ttyS2
"""

ENTRIES: tuple[tuple[str, Content, Entry], ...] = (
    (
        "GRUB, first entry",
        {"boot/grub/grub.cfg": GRUB_DEBIAN.encode()},
        Entry(
            "gnulinux-simple-1",
            "Debian GNU/Linux",
            "/boot/vmlinuz-6.12",
            ("/boot/initrd.img-6.12",),
            ("root=UUID=1", "ro", "console=tty0", "console=ttyAMA0,115200"),
        ),
    ),
    (
        "GRUB, saved entry",
        {
            "boot/grub/grub.cfg": GRUB_DEBIAN.replace('"0"', '"${saved_entry}"').encode(),
            "boot/grub/grubenv": b"# GRUB Environment Block\nsaved_entry=gnulinux-6.1\n####",
        },
        Entry(
            "gnulinux-6.1",
            "Debian, old",
            "/boot/vmlinuz-6.1",
            ("/boot/initrd.img-6.1",),
            ("root=UUID=1", "ro"),
        ),
    ),
    (
        "GRUB on one line, on the ESP",
        {"grub.cfg": b"menuentry d { linux /vmlinuz a=b\ninitrd /i\n}\n"},
        Entry("", "d", "/vmlinuz", ("/i",), ("a=b",)),
    ),
    (
        "GRUB without a menu",
        {"EFI/BOOT/grub.cfg": b"set k=/vmlinuz\nlinux $k a\ninitrd /i\nboot\n"},
        Entry("", "", "/vmlinuz", ("/i",), ("a",)),
    ),
    (
        "BLS through GRUB",
        {
            "grub2/grub.cfg": b'set kernelopts="ro quiet"\nblscfg\n',
            "loader/entries/a-6.12.conf": BLS.encode(),
            "loader/entries/a-6.9.conf": BLS.replace("6.12", "6.9").encode(),
            "loader/entries/a-0-rescue.conf": BLS.replace("6.12", "0-rescue").encode(),
        },
        Entry(
            "a-6.12",
            "Fedora Linux (6.12)",
            "/vmlinuz-6.12",
            ("/initramfs-6.12.img",),
            ("root=UUID=2", "ro", "quiet"),
            "6.12.0-300.fc43.aarch64",
        ),
    ),
    (
        "systemd-boot with a default",
        {
            "loader/loader.conf": b"timeout 3\ndefault old*\n",
            "loader/entries/new.conf": b"linux /new\n",
            "loader/entries/old+3-1.conf": b"linux /old\noptions a\noptions b\n",
        },
        Entry("old", "", "/old", (), ("a", "b")),
    ),
    (
        "extlinux",
        {"boot/extlinux/extlinux.conf": EXTLINUX.encode()},
        Entry(
            "new",
            "",
            "/boot/extlinux/../vmlinuz-new",
            ("/initrd-new",),
            ("root=LABEL=x", "console=ttyS2"),
        ),
    ),
    (
        "Raspberry Pi",
        {"config.txt": b"", "cmdline.txt": b"root=PARTUUID=1 rw\n", "kernel8.img": b""},
        Entry("", "", "/kernel8.img", (), ("root=PARTUUID=1", "rw")),
    ),
    (
        "Raspberry Pi, its names in capitals",
        {"config.txt": b"auto_initramfs=1\n", "cmdline.txt": b"rw\n", "KERNEL8.IMG": b""},
        Entry("", "", "/KERNEL8.IMG", ("/initramfs8",), ("rw",)),
    ),
)


def initrds_of(name: str, text: str, **more: bytes) -> tuple[str, ...]:
    entry = bootconf.default_entry(tree({name: text.encode(), **more}))
    assert entry is not None
    return entry.initrds


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("boot/grub/grub.cfg", "menuentry x {\nlinux /k\ninitrd /a /b\n}\n"),
        ("boot/grub/grub.cfg", "menuentry x {\nlinuxefi /k\ninitrdefi ($root)/a /b\n}\n"),
        ("boot/grub/grub.cfg", "menuentry x {\n\tlinux16 /k\n\tinitrd16 /a \\\n\t  /b\n}\n"),
        ("boot/grub/grub.cfg", "menuentry x { linux /k; initrd /a /b; }\n"),
        ("boot/grub/grub.cfg", "set i='/a /b'\nmenuentry x {\nlinux /k\ninitrd $i\n}\n"),
        ("boot/grub/grub.cfg", "linux /k a=b; initrd /a '/b'\nboot\n"),
        # The second command takes the place of the first.
        ("grub.cfg", "menuentry x {\nlinux /k\ninitrd /c\ninitrd /a /b\n}\n"),
        ("loader/entries/x.conf", "linux /k\ninitrd /a\ninitrd /b\n"),
        ("loader/entries/x.conf", "linux\t/k\ninitrd\t/a /b\n"),
        ("boot/loader/entries/x.conf", "title x\nlinux /k\ninitrd /a $none /b\n"),
        ("extlinux/extlinux.conf", "label x\nkernel /k\ninitrd /a,/b\n"),
        ("extlinux/extlinux.conf", "LABEL x\nLINUX /k\nINITRD /a, /b\n"),
        ("extlinux/extlinux.conf", "label x\nkernel /k\nappend ro initrd=/a,/b quiet\n"),
        ("startup.nsh", "k.efi initrd=\\a initrd=\\b root=x\r\n"),
    ],
)
def test_several_initrds_are_loaded_in_their_order(name: str, text: str) -> None:
    assert initrds_of(name, text, **{"k.efi": pe(AARCH64)}) == ("/a", "/b")


@pytest.mark.parametrize(
    ("config", "initrds"),
    [
        ("initramfs a,b followkernel\n", ("/a", "/b")),
        ("auto_initramfs=1\n", ("/initramfs8",)),
        ("#auto_initramfs=1\n", ()),
    ],
)
def test_initrds_of_a_raspberry_pi(config: str, initrds: tuple[str, ...]) -> None:
    files = {"cmdline.txt": b"root=x", "kernel8.img": b""}
    assert initrds_of("config.txt", config, **files) == initrds


GRUB_EFI = ("EFI/debian/grubaa64.efi", ())


@pytest.mark.parametrize(
    ("script", "call"),
    [
        (rb"FS0:\EFI\debian\grubaa64.efi", GRUB_EFI),
        (b"\xef\xbb\xbf@echo -off\r\n  \\EFI\\DEBIAN\\GRUBAA64\r\n", GRUB_EFI),
        ("\ufefffs1:\r\ncd \\efi\\debian\r\ngrubaa64.efi\r\n".encode("utf-16-le"), GRUB_EFI),
        (
            b'# grubaa64.efi\nif exist fs0:\\x then\n"fs0:\\efi\\debian\\grubaa64.efi"\nendif',
            GRUB_EFI,
        ),
        (b"for %a in 0 1 2\n  fs%a:\\EFI\\debian\\grubaa64.efi\nendfor", GRUB_EFI),
        (rb"bootaa64.efi", ("efi/boot/bootaa64.efi", ())),
        (rb"fs0:\Image root=/dev/vda2 ro", ("Image", ("root=/dev/vda2", "ro"))),
        (rb"other.nsh", GRUB_EFI),
        (rb"startup.nsh", None),
        (rb"fs0:\EFI\nothing.efi", None),
        (rb"fs0:\notes.txt", None),
        (rb"..\..\EFI\debian\grubaa64.efi", GRUB_EFI),
        (b"", None),
        (b'"', None),
        (b"\xff\xfe", None),
    ],
)
def test_what_the_firmwares_shell_starts(
    script: bytes, call: tuple[str, tuple[str, ...]] | None
) -> None:
    found = shellscript.first_call(
        Tree(
            Folded(
                {
                    "startup.nsh": script,
                    "other.nsh": rb"fs0:\EFI\debian\grubaa64.efi",
                    "EFI/debian/grubaa64.efi": pe(AARCH64),
                    "EFI/BOOT/BOOTAA64.EFI": pe(AARCH64),
                    "Image": pe(AARCH64),
                    "notes.txt": b"MZ",
                }
            )
        )
    )
    assert (found and (found.path.lower(), found.arguments)) == (
        call and (call[0].lower(), call[1])
    )


class Folded(Files):
    """A FAT compares names without regard to case."""

    def __init__(self, files: Content) -> None:
        super().__init__({name.lower(): content for name, content in files.items()}, "vfat")

    def node(self, path: str) -> Node | None:
        return super().node(path.lower())

    def read(self, path: str, offset: int, length: int) -> bytes:
        return super().read(path.lower(), offset, length)


@pytest.mark.parametrize(
    ("files", "entry"), [case[1:] for case in ENTRIES], ids=[case[0] for case in ENTRIES]
)
def test_the_entry_that_starts_by_itself(files: Content, entry: Entry) -> None:
    assert bootconf.default_entry(tree(files)) == entry


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"grub.cfg": b"search --fs-uuid x\nconfigfile ($root)/boot/grub/grub.cfg\n"},
        {"loader/entries": "entries"},
        {"loader/entries/a.conf": "../../../../../etc/passwd"},
        {"boot/extlinux/extlinux.conf": b"label x\n"},
        {"config.txt": b"", "cmdline.txt": b""},
    ],
)
def test_no_entry(files: Content) -> None:
    assert bootconf.default_entry(tree(files)) is None


@quick
@given(st.lists(st.sampled_from([*GRUB_DEBIAN.split(" "), "\n", "'", "}", "{", "$a", "blscfg"])))
def test_grub_of_any_words(words: list[str]) -> None:
    menu = bootconf.parse_grub(" ".join(words), {"a": "$a"})
    assert len(menu.entries) <= bootconf.MAX_ENTRIES


@quick
@given(st.text(max_size=400))
def test_entries_of_any_text(text: str) -> None:
    bootconf.parse_grub(f"menuentry x {{\n{text}\n}}", {})
    bootconf.parse_extlinux(f"label x\nkernel {text}")
    assert bootconf.parse_bls(f"linux {text}", "x.conf").name == "x"
    assert bootconf.natural(text) == bootconf.natural(text)


def test_versions_sort_as_people_count() -> None:
    versions = ["6.9.1", "6.10.0-rc1", "6.10.0", "5.15.200", ""]
    newest = sorted(versions, key=bootconf.natural, reverse=True)
    assert newest == ["6.10.0-rc1", "6.10.0", "6.9.1", "5.15.200", ""]


# --- drivers and kernels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "virtio", "modules"),
    [
        (BUILT_IN, True, ()),
        (AS_MODULE, True, ("virtio_blk",)),
        ("CONFIG_VIRTIO_PCI=m\nCONFIG_VIRTIO_BLK=m\n", True, ("virtio_pci", "virtio_blk")),
        ("CONFIG_VIRTIO_PCI=y\n# CONFIG_VIRTIO_BLK is not set\n", False, ()),
        (NO_VIRTIO, False, ()),
        ("", None, ()),
        ("not a configuration", None, ()),
    ],
)
def test_drivers_by_configuration(
    config: str, virtio: bool | None, modules: tuple[str, ...]
) -> None:
    found = drivers(Config.parse(config), None)
    assert (found.virtio, found.modules) == (virtio, modules)


@pytest.mark.parametrize(
    ("built_in", "loadable", "virtio", "modules"),
    [
        ("virtio/virtio_pci", "block/virtio_blk", True, ("virtio_blk",)),
        ("virtio/virtio-pci block/virtio_blk", "", True, ()),
        ("x/other", "virtio/virtio_pci block/virtio_blk", True, ("virtio_pci", "virtio_blk")),
        ("x/other", "block/virtio_blk", False, ()),
        ("", "virtio/virtio_pci block/virtio_blk", None, ()),
    ],
)
def test_drivers_by_the_lists_of_modules(
    built_in: str, loadable: str, virtio: bool | None, modules: tuple[str, ...]
) -> None:
    files: Content = {
        "m/modules.builtin": "".join(f"kernel/{each}.ko\n" for each in built_in.split()).encode(),
        "m/modules.dep": "".join(f"kernel/{e}.ko.xz: a.ko\n" for e in loadable.split()).encode(),
    }
    found = drivers(Config(), (tree(files), "m"))
    assert (found.virtio, found.modules) == (virtio, modules)


KERNEL = arm64_image("any")
FINDS: tuple[tuple[str, Content, str, str, str], ...] = (
    (
        "Debian",
        with_kernel(),
        "boot/vmlinuz-6.12.0-arm64",
        "6.12.0-arm64",
        "boot/initrd.img-6.12.0-arm64",
    ),
    (
        "the newest of two",
        {**with_kernel(version="6.9.0"), **with_kernel(version="6.10.0")},
        "boot/vmlinuz-6.10.0",
        "6.10.0",
        "boot/initrd.img-6.10.0",
    ),
    (
        "Alpine",
        {
            "boot/vmlinuz-virt": KERNEL,
            "boot/initramfs-virt": initrd(),
            "lib/modules/6.12.1-0-virt/modules.builtin": b"",
        },
        "boot/vmlinuz-virt",
        "6.12.1-0-virt",
        "boot/initramfs-virt",
    ),
    (
        "beside its modules",
        {"usr/lib/modules/6.12.0-1-arm64/vmlinuz": KERNEL},
        "usr/lib/modules/6.12.0-1-arm64/vmlinuz",
        "6.12.0-1-arm64",
        "",
    ),
    (
        "Arch Linux ARM",
        {"boot/Image": KERNEL, "boot/initramfs-linux.img": initrd()},
        "boot/Image",
        "",
        "boot/initramfs-linux.img",
    ),
    (
        "not the rescue kernel",
        {"boot/vmlinuz-0-rescue-abc": KERNEL, "boot/vmlinuz-6.1": KERNEL},
        "boot/vmlinuz-6.1",
        "6.1",
        "",
    ),
)


@pytest.mark.parametrize(
    ("files", "path", "version", "initrd_path"),
    [case[1:] for case in FINDS],
    ids=[case[0] for case in FINDS],
)
def test_kernels_without_a_loaders_configuration(
    files: Content, path: str, version: str, initrd_path: str
) -> None:
    place = Place(2, tree(files))
    found = kernels.find([place], place.tree)
    default = kernels.default([place], found, place.tree)
    assert default.found is not None
    assert (default.found.kernel.path, default.found.kernel.version) == (path, version)
    assert default.found.kernel.where == 2
    assert [one.path for one in default.initrds] == ([initrd_path] if initrd_path else [])


def test_a_loaders_path_lies_in_the_file_system_that_has_it() -> None:
    boot = Place(2, tree({"vmlinuz-6.1": KERNEL, "initrd-6.1": initrd()}))
    configuration = b"linux /vmlinuz-6.1 root=x\ninitrd /initrd-6.1\n"
    esp = Place(1, tree({"EFI/fedora/grub.cfg": configuration}))
    default = kernels.default([esp, boot], [], None)
    assert default.found is not None
    assert default.found.kernel.where == 2
    assert [(one.where, one.path) for one in default.initrds] == [(2, "initrd-6.1")]
