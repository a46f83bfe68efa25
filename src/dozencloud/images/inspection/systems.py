"""The operating system in a tree of files."""

from __future__ import annotations

import posixpath
import re
import shlex

from dozencloud.images.inspection import artefacts
from dozencloud.images.inspection.model import Arch, System
from dozencloud.images.inspection.tree import Tree
from dozencloud.images.inspection.unpack import Blob

INITS = ("sbin/init", "usr/sbin/init", "usr/lib/systemd/systemd", "lib/systemd/systemd", "init")
PROGRAMS = (
    "bin/sh",
    "usr/bin/sh",
    "bin/busybox",
    "usr/bin/env",
    "usr/bin/bash",
    "lib/ld-linux-armhf.so.3",
    "lib/ld-linux-aarch64.so.1",
)
"""What tells the architecture of a system without init: a container's."""
MAX_SCRIPTS = 3
"""An init may be a script; its interpreter may be one again."""
MAX_PROGRAMS = 64

# cloud-init, and Alpine's tiny-cloud: both take name and keys from the cloud's metadata.
CLOUD_INIT = (
    "usr/bin/cloud-init",
    "usr/local/bin/cloud-init",
    "usr/lib/systemd/system/cloud-init.service",
    "lib/systemd/system/cloud-init.service",
    "etc/init.d/cloud-init",
    "etc/init.d/tiny-cloud",
    "usr/bin/tiny-cloud",
    "sbin/tiny-cloud",
    "usr/lib/tiny-cloud",
    "lib/tiny-cloud",
)

DPKG_ARCHES = {
    "arm64": Arch.AARCH64,
    "armhf": Arch.ARMV7L,
    "armel": Arch.ARMV6,
    "amd64": Arch.X86_64,
    "i386": Arch.I686,
    "riscv64": Arch.RISCV64,
    "ppc64el": Arch.PPC64LE,
    "s390x": Arch.S390X,
    "mipsel": Arch.MIPSEL,
}
APK_ARCHES = {
    "aarch64": Arch.AARCH64,
    "armv7": Arch.ARMV7L,
    "armhf": Arch.ARMV6,
    "x86_64": Arch.X86_64,
    "x86": Arch.I686,
    "riscv64": Arch.RISCV64,
    "ppc64le": Arch.PPC64LE,
    "s390x": Arch.S390X,
}


def looks_like_root(tree: Tree) -> bool:
    """Whether the tree is that of an operating system."""
    return bool(os_release(tree)) or any(tree.exists(path) for path in INITS[:-1])


def read_system(tree: Tree, *, partition: int = 0, used: int = 0) -> System:
    """The system whose root the tree is."""
    about = os_release(tree)
    init, arch = find_init(tree)
    return System(
        id=about.get("ID", ""),
        version=about.get("VERSION_ID", ""),
        name=about.get("PRETTY_NAME") or about.get("NAME", ""),
        arch=arch or _packages_arch(tree),
        init=init,
        cloud_init=any(tree.exists(path) for path in CLOUD_INIT),
        root_partition=partition,
        used=used,
    )


def os_release(tree: Tree) -> dict[str, str]:
    """os-release(5); empty if there is none."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        text = tree.text(path, 1 << 16)
        if text:
            return parse_os_release(text)
    return {}


def parse_os_release(text: str) -> dict[str, str]:
    """Assignments with the quoting of a shell; what is none is passed over."""
    found = {}
    for line in text.splitlines():
        name, equal, value = line.strip().partition("=")
        if not equal or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            continue
        try:
            plain = "".join(shlex.split(value)[:1])
        except ValueError:
            continue
        # shlex leaves these two escaped; a shell, and os-release(5), do not.
        found[name] = re.sub(r"\\([$`])", r"\1", plain)[:256]
    return found


def find_init(tree: Tree) -> tuple[str, Arch | None]:
    """What runs as the first process, and the architecture that it, or else a shell, needs."""
    init = ""
    for path in INITS:
        where = tree.resolve(path)
        if where is None:
            continue
        init = init or where
        arch = _program_arch(tree, where)
        if arch is not None:
            return where, arch
    for path in (*PROGRAMS, *_some_programs(tree)):
        arch = _program_arch(tree, path)
        if arch is not None:
            return init, arch
    return init, None


def _some_programs(tree: Tree) -> list[str]:
    return [
        f"{folder}/{name}"
        for folder in ("usr/bin", "bin", "usr/local/bin", "")
        for name in tree.names(folder)[:MAX_PROGRAMS]
    ]


def _program_arch(tree: Tree, path: str) -> Arch | None:
    """The architecture of a program; of its interpreter, if it is a script."""
    for _ in range(MAX_SCRIPTS):
        blob = Blob.of_path(tree, path)
        if blob is None:
            return None
        head = blob.read(0, 256)
        script = re.match(rb"#! *(/[^\s]+)", head)
        if script is None:
            return artefacts.elf_arch(blob)
        path = posixpath.normpath(script[1].decode("utf-8", "replace"))
    return None


def _packages_arch(tree: Tree) -> Arch | None:
    """The architecture that the package manager names, where no program tells it."""
    native = tree.text("var/lib/dpkg/arch-native", 64).strip()
    listed = tree.text("var/lib/dpkg/arch", 64).split()
    for name in (native, *listed[:1]):
        if name in DPKG_ARCHES:
            return DPKG_ARCHES[name]
    return APK_ARCHES.get(tree.text("etc/apk/arch", 64).strip())


def root_argument(tree: Tree) -> str:
    """The device of `/` in fstab(5); empty if it names none, or one of other hardware."""
    for line in tree.text("etc/fstab", 1 << 16).splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[1] == "/" and not line.startswith("#"):
            return fields[0] if re.match(r"(UUID|LABEL|PARTUUID|PARTLABEL)=", fields[0]) else ""
    return ""
