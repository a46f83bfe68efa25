"""The root file system: mmdebstrap installs the packages, foreign programs run under qemu-user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from backports import zstd

from dozencloud.errors import overdue
from dozencloud.images.debian import files, tools
from dozencloud.images.debian.packages import Apt, Package
from dozencloud.images.debian.recipe import Purpose, Recipe

HOOKS = Path(__file__).parent / "hooks"

GRUB_MODULES = (
    *(
        "all_video",
        "boot",
        "cat",
        "configfile",
        "echo",
        "efi_gop",
        "efifwsetup",
        "ext2",
        "fat",
        "fdt",
        "font",
    ),
    *("gettext", "gfxterm", "gzio", "halt", "help", "linux", "loadenv", "ls", "minicmd", "normal"),
    *("part_gpt", "part_msdos", "probe", "reboot", "regexp", "search", "search_fs_file"),
    *("search_fs_uuid", "search_label", "serial", "sleep", "terminal", "test", "true", "video"),
    "xzio",
)
"""What a grub.cfg of update-grub asks for."""

STEPS = {
    "I: extracting archives...": "unpacking the essential packages",
    "I: installing essential packages...": "installing the essential packages",
    "I: installing remaining packages inside the chroot...": "installing the other packages",
    "I: cleaning package lists and apt cache...": "removing what belongs to no image",
}
SAY_EVERY = 40
"""Packages between two lines of progress: about one a minute under emulation."""


def make(
    recipe: Recipe,
    apt: Apt,
    packages: Sequence[Package],
    epoch: int,
    work: Path,
    say: Callable[[str], None],
    lock: int,
) -> Path:
    """Install the packages; returns a tar archive of the root that depends on them alone.

    epoch: seconds since 1970; no file in the archive is newer.
    lock: a file that mmdebstrap keeps open, so that no other build begins before its end.
    """
    for name, overlay in (("before", files.before(recipe)), ("after", files.after(recipe))):
        _write(work / name, overlay)
    chosen = work / "packages"
    chosen.mkdir()
    for package in packages:
        _link(apt.files / package.file, chosen / package.file)
    options = work / "dpkg.cfg"
    options.write_text(files.NO_DOCUMENTATION)
    for hook in HOOKS.iterdir():
        shutil.copyfile(hook, work / hook.name)
        (work / hook.name).chmod(0o755)
    target = work / "root.tar"
    boot = recipe.boot if recipe.purpose is Purpose.VM else None
    extra = {
        "SOURCE_DATE_EPOCH": str(epoch),
        "TMPDIR": str(work),
        "INITRD": "No",
        "DOZEN_BEFORE": str(work / "before"),
        "DOZEN_AFTER": str(work / "after"),
        "DOZEN_LISTS": str(apt.lists),
        "DOZEN_PACKAGES": str(chosen),
        "DOZEN_GRUB": boot.grub if boot else "",
        "DOZEN_GRUB_PACKAGE": boot.grub_package if boot else "",
        "DOZEN_GRUB_MODULES": " ".join(GRUB_MODULES),
    }
    _mmdebstrap(command(recipe, work, apt.sources, target), extra, len(packages), say, lock)
    return target


def command(recipe: Recipe, work: Path, sources: Path, target: Path) -> list[str]:
    """The command line of mmdebstrap."""
    return [
        # If we are killed, all of it ends at once; its mounts, seen by it alone, go with it.
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        "mmdebstrap",
        "--verbose",
        "--mode=root",
        f"--architectures={recipe.architecture}",
        "--variant=apt",
        f"--include={','.join(recipe.packages)}",
        f"--dpkgopt={work / 'dpkg.cfg'}",
        # The lists are here already, and are those by which the packages were chosen.
        "--skip=update",
        f"--setup-hook={work / 'setup'}",
        f"--customize-hook={work / 'customize'}",
        recipe.suite,
        str(target),
        str(sources),
    ]


def _mmdebstrap(
    words: list[str], extra: dict[str, str], total: int, say: Callable[[str], None], lock: int
) -> None:
    last: deque[str] = deque(maxlen=40)
    done = 0
    with subprocess.Popen(
        words,
        env=tools.environment(extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=(lock,),
    ) as process:
        assert process.stderr is not None  # noqa: S101
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(tools.LONGEST, kill)
        timer.daemon = True
        timer.start()
        try:
            for line in process.stderr:
                last.append(line.rstrip())
                if line.rstrip() in STEPS:
                    say(STEPS[line.rstrip()])
                if re.match(r"Setting up \S+ \(", line):
                    done += 1
                    if done % SAY_EVERY == 0:
                        say(f"{done} of {total} packages are installed")
        finally:
            timer.cancel()
    if late.is_set():
        raise overdue(subprocess.TimeoutExpired(words, tools.LONGEST))
    if process.returncode != 0:
        raise tools.failure("mmdebstrap", "the root file system", "\n".join(last))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a root's archive with owners, times and file capabilities."""
    folder.mkdir()
    tools.run(
        [
            *("tar", "--extract", "--numeric-owner", "--same-permissions"),
            *("--xattrs", "--xattrs-include=*", "--file", archive, "--directory", folder),
        ],
        "the root file system",
    )


def compress(archive: Path, target: Path) -> None:
    """Write the archive as .tar.zst; the same input gives the same bytes."""
    # One thread: with more, the cut into jobs would be part of the result.
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: 9,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    with archive.open("rb") as source, zstd.open(target, "wb", options=options) as out:
        shutil.copyfileobj(source, out, 1 << 20)


def _write(folder: Path, overlay: dict[str, str]) -> None:
    for name, text in overlay.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
