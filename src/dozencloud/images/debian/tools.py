"""Programs that a build starts: whether they are here, and what they say when they fail."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping

from dozencloud.errors import Exit, Problem
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need
from dozencloud.images.debian.recipe import Architecture, Purpose, Recipe

# sbin is not on every user's path; mke2fs and sfdisk live there.
LONGEST = 4 * 3600.0
"""s that one program may take: an emulated machine is installed by it."""
PATH = os.environ.get("PATH", "/usr/bin") + ":/usr/sbin:/sbin"

FOR_ROOT = {
    "mmdebstrap": "mmdebstrap",
    "arch-test": "arch-test",
    "tar": "tar",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "apt-get": "apt",
}
FOR_DISK = {
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "qemu-img": "qemu-utils",
}
FOR_UEFI = {
    "sfdisk": "fdisk",
    "mkfs.vfat": "dosfstools",
    "mmd": "mtools",
    "mcopy": "mtools",
}
"""Program: Debian package that has it."""


def find(program: str) -> str | None:
    """The program's path, or None."""
    return shutil.which(program, path=PATH)


def programs(purpose: Purpose) -> dict[str, str]:
    """The programs that building an image for a purpose takes, with their packages."""
    match purpose:
        case Purpose.VM:
            return {**FOR_ROOT, **FOR_DISK, **FOR_UEFI}
        case Purpose.KERNEL:
            return {**FOR_ROOT, **FOR_DISK}
        case Purpose.CONTAINER:
            return FOR_ROOT


def require(recipe: Recipe) -> None:
    """Raise Problem unless this machine has what the build takes."""
    if problem := registry.here().lacks(Need.IMAGE_BUILDER):
        raise problem
    missing = sorted({p for name, p in programs(recipe.purpose).items() if find(name) is None})
    foreign = not runs(recipe.architecture)
    emulator = ["qemu-user-static", "binfmt-support"]
    if missing:
        wanted = missing + (emulator if foreign else [])
        raise Problem(
            f"Building a Debian image takes programs that are missing here: {', '.join(missing)}.",
            f"Install them: apt-get install {' '.join(wanted)}",
            code=Exit.UNFIT,
        )
    if foreign:
        raise Problem(
            f"This machine cannot run {recipe.architecture} programs, and Debian's packages run"
            " some while they are installed.",
            f"Install an emulator: apt-get install {' '.join(emulator)} (if it is installed:"
            " update-binfmts --enable, or systemctl restart systemd-binfmt)",
            code=Exit.UNFIT,
        )
    if os.geteuid() != 0:
        raise Problem(
            "Building a Debian image needs root: its files belong to many users.",
            "Run it again with sudo.",
            code=Exit.UNFIT,
        )


def runs(architecture: Architecture) -> bool:
    """Whether the kernel starts programs of an architecture, by itself or by an emulator."""
    test = find("arch-test")
    if test is None:
        return False
    return subprocess.run([test, architecture], capture_output=True, timeout=60).returncode == 0


def run(
    command: Iterable[str | os.PathLike[str]],
    what: str,
    *,
    extra: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Run a command to its end and return its output.

    what: what it should have made, for the Problem if it fails.
    Raises OSError(ENOSPC) if the disk became full.
    """
    name, *arguments = [os.fspath(word) for word in command]
    program = find(name)
    if program is None:
        raise Problem(
            f"The program {name} is missing.",
            f"Install it: apt-get install {_package(name)}",
            code=Exit.UNFIT,
        )
    done = subprocess.run(
        [program, *arguments],
        env=environment(extra),
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=LONGEST,
    )
    if done.returncode != 0:
        raise failure(name, what, done.stderr)
    return done.stdout


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a program whose output must not depend on this machine."""
    return {**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(extra or {})}


def failure(name: str, what: str, said: str) -> Exception:
    """What to raise for a program that failed."""
    if "No space left on device" in said or "Disk full" in said:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return Problem(
        f"{name} could not make {what}.",
        "The lines below say why; mend that, then run it again.",
        detail="\n".join(said.strip().splitlines()[-12:]),
    )


def _package(program: str) -> str:
    return {**FOR_ROOT, **FOR_DISK, **FOR_UEFI}.get(program, program)
