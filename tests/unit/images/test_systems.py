"""Systems, and what their boot loaders are set up to start."""

from __future__ import annotations

import time
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

from dozencloud.images.inspection import (
    bls,
    bootconf,
    bootentry,
    grub,
    kernels,
    shellscript,
    systems,
)
from dozencloud.images.inspection.bootentry import Entry
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


KIJ = "linux /k\ninitrd /a /b\n"
KI = "linux /k\ninitrd /a\n"


def menu(*bodies: str) -> str:
    return "".join(f"menuentry 'm{n}' {{\n{body}}}\n" for n, body in enumerate(bodies))


@pytest.mark.parametrize(
    "text",
    [
        "i='/a /b'\n" + menu("linux /k\ninitrd $i\n"),
        'x=/a\nset i="$x /b"\n' + menu("linux /k\ninitrd $i\n"),
        "set linux=linux\ni=initrd\n" + menu("$linux /k\n$i /a /b\n"),
        "set efi=efi\n" + menu("linux${efi} /k\ninitrd$efi /a /b\n"),
        menu("linux$grub_cpu /k\ninitrd /a /b\n"),
        menu("linux /k\necho 'Loading'; initrd /a /b # both\n"),
        menu("linux /k\ninitrd /a \\\r\n  /b\r\n"),
        menu("linux /k\ninitrd ($root)'/a' (hd0,gpt2)\"/b\"\n"),
        menu("linux /k\ninitrd /a newc:b.img:/b\n"),
        "menuentry 'x' --id y\n{\nlinux /k\ninitrd /a /b\n}\n",
        menu("linux /k\nif [ -f /b ]; then initrd /a /b; else initrd /a; fi\n"),
        menu("linux /k\nif ! true\nthen\ninitrd /a\nelif [ ! -z x ]; then\ninitrd /a /b\nfi\n"),
        menu('linux /k\ninitrd /a\nif [ "$a" = 1 -o x$b = x ]; then initrd /a /b\nfi\n'),
        menu("if [ 2 -lt 10 -a x != y ]; then linux /k; fi; initrd /a /b\n"),
        "function f {\nlinux /k\ninitrd /a $1\n}\n" + menu("f /b\n"),
        menu('for i in /a /b; do set l="$l $i"; done\nlinux /k\ninitrd $l\n'),
        menu("linux /k\nwhile false; do initrd /c; done\ninitrd /a /b\n"),
        "set default='1>1'\n" + menu(KI) + f"submenu s {{\n{menu(KI, KIJ)}}}\n",
        "set default=2\n" + menu(KI) + f"submenu s {{\n{menu(KI, KI)}}}\n" + menu(KIJ),
        "set default='s>m1'\n" + menu(KI) + f"submenu x --id=s {{\n{menu(KI, KIJ)}}}\n",
        "default=m1\n" + menu(KI, KIJ),
        'if [ -z "$default$next" ]; then set default=0; fi\n' + menu(KIJ, KI),
        'set default="${saved_entry}"\nif [ -z "$default" ]; then default=1; fi\n' + menu(KI, KIJ),
        "source $prefix/other.cfg\n",
        "set prefix=($root)/boot/grub\nconfigfile ${prefix}/other.cfg\n" + menu(KI),
        menu("configfile /boot/grub/other.cfg\n"),
        "export x\n" + KIJ + "boot\n" + menu(KI),
        menu("linux /c\ninitrd /c\n" + KIJ),
    ],
)
def test_a_grub_script(text: str) -> None:
    entry = bootconf.default_entry(
        tree(
            {
                "boot/grub/grub.cfg": text.encode(),
                "boot/grub/other.cfg": menu(KIJ, KI).encode(),
                "b": b"",
            }
        )
    )
    assert entry is not None
    assert (entry.kernel, entry.initrds, entry.sure) == ("/k", ("/a", "/b"), True)


@pytest.mark.parametrize(
    "text",
    [
        menu("linux /k\nif [ -f /none ]; then initrd /a /b; else initrd /a; fi\n"),
        menu("linux /k\nif search -f /none; then initrd /a /b; fi\n"),
        menu(f"if [ $grub_cpu = arm ]; then\n{KI}\nelse\n{KIJ}\nfi\n"),
        menu("linux /k\ninitrd /a /b*.img\n"),
        menu("linux /k\nfor i in /*.img; do initrd /a $i; done\n"),
        menu("linux /k\nprobe --set=i -u $root\ninitrd /a /$i\n"),
        menu("linux /k\nread x\n$x /a /b\n"),
        "set default=$cmdpath\n" + menu(KI, KIJ),
        "if [ -e /none ]; then\n" + menu(KIJ) + "fi\n" + menu(KI),
        "if [ -e /none ]; then\nconfigfile /b\nreturn\nfi\n" + menu(KI),
        menu("chainloader /x.efi\n", KI),
        "function f {\nf\n}\nf\n" + menu(KI),
        "source /boot/grub/grub.cfg\n" + menu(KI),
    ],
)
def test_what_only_a_running_grub_knows_counts_against_no_image(text: str) -> None:
    entry = bootconf.default_entry(tree({"boot/grub/grub.cfg": text.encode()}))
    assert entry is not None
    assert entry.kernel == "/k"
    assert not entry.sure


@pytest.mark.parametrize(
    "text",
    [
        "if a; then " * 5000,
        "if [ $grub_cpu = a ]; then x=y; elif " * 5000,
        "menuentry a { " * 5000,
        "for a in 1 2 3 4 5 6 7 8; do " * 5000 + "x",
        "function f { for i in 1 2 3 4 5; do f; f; done\n}\nf",
        "[ " + "a -o " * 5000 + "]\n",
        "if [ ! " + "x -a " * 5000 + "]; then linux /k; fi",
        "a=xxxxxxxxxxxxxxxx\n" + "a=$a$a$a$a\n" * 20 + "linux $a " * 5000,
        "while true; do source /grub.cfg; configfile /grub.cfg; done",
        "$" * 100_000,
        '"\\' * 100_000,
        "".join(f"v{n}=1\nif [ $root ]; then x=$v{n}; fi\n" for n in range(5000)),
    ],
)
def test_a_hostile_grub_script_ends_soon(text: str) -> None:
    began = time.process_time()
    bootconf.default_entry(tree({"grub.cfg": text.encode()}))
    assert time.process_time() - began < 5


LONE = "linux /k\ninitrd /a\n"


@pytest.mark.parametrize(
    ("files", "initrds"),
    [
        ({"ENTRY.CONF": b"linux \\l\\k\ninitrd \\a\n"}, ("/a",)),
        ({"x.conf": b"linux /k\ninitrd /a\noptions initrd=\\l\\b root=x\n"}, ("/a", "/l/b")),
        ({"x.conf": b"uki /u.efi\nextra /a\nextra /b\n"}, ("/a", "/b")),
        # Sort keys, then versions; then names, the highest first.
        (
            {
                "z.conf": b"linux /k\ninitrd /z\n",
                "y.conf": b"linux /k\ninitrd /y\nsort-key b\nversion 7\n",
                "x.conf": b"linux /k\ninitrd /x\nsort-key a\nversion 6.9\n",
                "w.conf": b"linux /k\ninitrd /w\nsort-key a\nversion 6.10\n",
            },
            ("/w",),
        ),
        ({"z+0-3.conf": b"linux /z\n", "a+3.conf": LONE.encode()}, ("/a",)),
        (
            {
                "z.conf": b"linux /z\narchitecture x64\n",
                "a.conf": b"linux /k\ninitrd /a\narchitecture AA64\n",
            },
            ("/a",),
        ),
        (
            {"z.conf": b"linux /z\n", "a.conf": LONE.encode(), "../loader.conf": b"default A*\n"},
            ("/a",),
        ),
    ],
)
def test_entries_of_the_boot_loader_specification(
    files: dict[str, bytes], initrds: tuple[str, ...]
) -> None:
    placed = {
        "loader/" + name[3:] if name.startswith("../") else f"loader/entries/{name}": content
        for name, content in files.items()
    }
    entry = bootconf.default_entry(tree({**placed}))
    assert entry is not None
    assert entry.initrds == initrds


def test_grub_loads_early_initrds_first() -> None:
    script = b"early_initrd='ucode.img /b'\nblscfg\n"
    files = {"loader/entries/x.conf": b"linux /boot/k\ninitrd /a\n"}
    assert initrds_of("grub2/grub.cfg", script.decode(), **files) == ("/boot/ucode.img", "/b", "/a")


@pytest.mark.parametrize(
    "text",
    [
        "label x\nkernel /x\nlabel y\nmenu default\nkernel /k\ninitrd /a,/b\n",
        "default y\nappend initrd=/a,/b ro\nlabel y\nkernel /k\n",
        "append initrd=/c\nlabel y\nkernel /k\nappend initrd=/a,/b\n",
        "menu include more.conf\n",
        "INCLUDE /extlinux/more.conf\nlabel z\nlinux /z\n",
        "include extlinux.conf\n" * 20 + "label y\nkernel /k\ninitrd /a,/b\n",
    ],
)
def test_an_extlinux_configuration(text: str) -> None:
    more = {"extlinux/more.conf": b"label y\nkernel /k\ninitrd /a,/b\n"}
    assert initrds_of("extlinux/extlinux.conf", text, **more) == ("/a", "/b")


GRUB_EFI = ("EFI/debian/grubaa64.efi", ())
IMAGE = ("Image", ())


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
        (rb"fs1:\other", GRUB_EFI),
        (b"set -v dist debian\nset ldr \\EFI\\%dist%\\grubaa64.efi\nfs0:%ldr%\n", GRUB_EFI),
        (b"for %f in fs0:\\none.efi fs0:\\efi\\debian\\grubaa64\n%f\nendfor", GRUB_EFI),
        (b"for %a run (0 3)\nif exist fs%a:\\Image then\nfs%a:\\Image\nendif\nendfor", IMAGE),
        (b"for %a run (2 1)\nif %a == 1 then\nImage %a\nendif\nendfor", ("Image", ("1",))),
        (b"if not exist Image then\ngrubx64\nelse\nImage\nendif", IMAGE),
        (b"if exist Image then\ngrubx64\nelse\nother\nendif\nImage", IMAGE),
        (b"if exist fs9:\\Image then\nother\nendif\nImage", IMAGE),
        (b"grubx64.efi\r\nImage\r\n", IMAGE),
        (b"goto next\nother\n:next\nImage\n", IMAGE),
        (b"if %1 == x or %2 == y then\nexit\nendif\nImage\n", IMAGE),
        (b"exit\nImage\n", None),
        (b"ends\nImage\n", None),
        (b"fs7:\nImage\n", None),
        (b":a\ngoto a\n", None),
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
                    "ends.nsh": b"echo bye\nexit\n",
                    "grubx64.efi": pe(0x8664),
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


@pytest.mark.parametrize("folder", ["", "EFI/BOOT/", "efi/tools/"])
def test_where_the_firmwares_shell_looks_for_its_script(folder: str) -> None:
    files = {f"{folder}startup.nsh": b"\\x.efi", "x.efi": pe(AARCH64)}
    assert shellscript.first_call(Tree(Folded({**files}))) == shellscript.Call("x.efi")


SHELL = (
    'if exist Image then else endif for %a in run endfor goto x :x set %x% exit cd fs0: " startup'
)


@quick
@given(st.lists(st.sampled_from([*SHELL.split(), "(1 9)", "\n"])))
def test_shell_scripts_of_any_words(words: list[str]) -> None:
    files = {"startup.nsh": " ".join(words).replace("\n ", "\n").encode(), "image": pe(AARCH64)}
    call = shellscript.first_call(Tree(Folded({**files})))
    assert call is None or call.path.lower() == "image"


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
    script = grub.Script([], {"a": "$a"})
    script.run(" ".join(words))
    entry = script.chosen()
    assert entry is None or entry.kernel


@quick
@given(st.text(max_size=400))
def test_entries_of_any_text(text: str) -> None:
    grub.parse(f"menuentry x {{\n{text}\n}}")
    bootconf.parse_extlinux(f"label x\nkernel {text}")
    assert bls.parse(f"linux {text}", "x.conf").entry.name == "x"
    assert bootentry.natural(text) == bootentry.natural(text)


def test_versions_sort_as_people_count() -> None:
    versions = ["6.9.1", "6.10.0-rc1", "6.10.0", "5.15.200", ""]
    newest = sorted(versions, key=bootentry.natural, reverse=True)
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
