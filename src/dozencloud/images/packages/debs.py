"""Fetches packages of a foreign architecture from a Debian mirror, signatures checked by apt."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from dozencloud.errors import Problem
from dozencloud.images.packages import apt

SECONDS = 900.0
"""That one package may take to be unpacked, on a slow card."""
MERGED = ("bin", "lib", "sbin")
"""Links into /usr on an installed Debian; before Debian 13 packages have files there."""


def fetch(
    source: apt.Source,
    architecture: str,
    packages: Sequence[str],
    work: Path,
    *,
    without: Sequence[str] = (),
    say: Callable[[str], None] = lambda _line: None,
) -> list[Path]:
    """Download the packages and what they depend on; returns the files, sorted by name.

    While the mirror updates the release, they come from the release before: for whom any release
    of Debian does. Who needs just this one calls `fetch_exactly`.

    architecture: Debian's name (arm64, armhf).
    work: an empty directory for apt's files.
    without: packages taken for installed, so that neither they nor what only they depend on is
        fetched. For what a dependency asks for and the image does without.
    """
    try:
        return fetch_exactly(source, architecture, packages, work, without=without)
    except apt.MirrorIsUpdated as updated:
        if source.older is None:
            raise
        say(f"{updated.what} Debian {source.older.suite} is taken instead.")
        work = work / source.older.suite
        work.mkdir()
        return fetch_exactly(source.older, architecture, packages, work, without=without)


def fetch_exactly(
    source: apt.Source,
    architecture: str,
    packages: Sequence[str],
    work: Path,
    *,
    without: Sequence[str] = (),
) -> list[Path]:
    """As `fetch`, from this release or not at all."""
    apt.require_keys(source.keyring)
    config = apt.configure(work, architecture)
    (work / "status").write_text(
        "".join(
            f"Package: {name}\nStatus: install ok installed\nArchitecture: {architecture}\n"
            # Newer than whatever a dependency asks for.
            "Multi-Arch: foreign\nVersion: 9999:1\nMaintainer: none\nDescription: none\n\n"
            for name in without
        )
    )
    (work / "sources.list").write_text(
        f"deb [arch={architecture} signed-by={source.keyring}]"
        f" {source.mirror} {source.suite} main\n"
    )
    apt.run(["update"], config, source)
    apt.run(["install", "--download-only", *packages], config, source)
    return sorted((work / "cache" / "archives").glob("*.deb"))


def unpack(packages: Sequence[Path], root: Path) -> None:
    """Extract packages into a directory, all programs and libraries below /usr. Nothing is run."""
    root.mkdir(parents=True, exist_ok=True)
    for package in packages:
        done = subprocess.run(
            ["dpkg-deb", "--extract", package, root],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        if done.returncode != 0:
            full = "No space left on device" in done.stderr
            raise Problem(
                "The disk became full while the image was built."
                if full
                else f"The package {package.name} cannot be unpacked.",
                "Make about 400 MB free, then run it again." if full else "Run it again.",
                detail="\n".join(done.stderr.splitlines()[-3:]),
            )
    for name in MERGED:
        folder = root / name
        if folder.is_dir() and not folder.is_symlink():
            shutil.copytree(folder, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(folder)
        if not folder.is_symlink():
            folder.symlink_to(f"usr/{name}")
