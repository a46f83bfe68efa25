"""Which packages an image consists of, and their files: by apt, from signed lists alone.

apt's folder is kept: lists and packages that were fetched once are not fetched again. What apt
resolved here is what mmdebstrap then installs, for it gets the same lists and the same files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from dozencloud.errors import Problem
from dozencloud.images.debian.recipe import Architecture, Suite
from dozencloud.images.files import file_hash
from dozencloud.images.packages import apt


@dataclass(frozen=True)
class Archive:
    """Where packages come from, who vouches for them, and how to get there."""

    mirror: str
    security: str
    keyring: Path
    proxy: str = ""

    def lines(self, suite: Suite) -> str:
        """The text of a sources.list."""
        return "".join(
            f"deb [signed-by={self.keyring}] {where} {name} main\n"
            for where, name in (
                (self.mirror, suite),
                (self.mirror, f"{suite}-updates"),
                (self.security, f"{suite}-security"),
            )
        )


@dataclass(frozen=True)
class Package:
    """One package of an image. sha256: of its file, as the signed list gives it."""

    name: str
    version: str
    architecture: str
    file: str
    sha256: str


class Apt:
    """apt for one suite and architecture, in a folder that is kept."""

    def __init__(
        self, archive: Archive, suite: Suite, architecture: Architecture, folder: Path
    ) -> None:
        apt.require_keys(archive.keyring)
        self._source = apt.Source(archive.mirror, suite, archive.keyring)
        self.lists = folder / "state" / "lists"
        self.files = folder / "cache" / "archives"
        self.sources = folder / "sources.list"
        self._config = apt.configure(folder, architecture, proxy=archive.proxy)
        self._nowhere = folder / "nowhere"
        (self._nowhere / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        self.sources.write_text(archive.lines(suite))

    def update(self) -> None:
        """Fetch the lists; what has not changed is not fetched again."""
        apt.run(["update"], self._config, self._source)

    def resolve(self, wanted: Sequence[str]) -> tuple[Package, ...]:
        """The packages, all that they need, and what every Debian system has; sorted."""
        # apt prints no packages whose files it has; so it looks for them where there are none.
        nowhere = ["-o", f"Dir::Cache::archives={self._nowhere}"]
        command = [*nowhere, "install", "--print-uris", "-qq", "?essential", *wanted]
        output = apt.run(command, self._config, self._source, clean=True)
        return tuple(sorted(parse_uris(output), key=lambda package: package.name))

    def fetch(self, packages: Sequence[Package]) -> tuple[Path, ...]:
        """Download what is not here yet; returns the files, checked against the list."""
        exact = [f"{p.name}={p.version}" for p in packages]
        apt.run(["install", "--download-only", *exact], self._config, self._source)
        found = tuple(self.files / package.file for package in packages)
        for package, path in zip(packages, found, strict=True):
            if not path.is_file() or file_hash(path) != package.sha256:
                path.unlink(missing_ok=True)
                raise Problem(
                    f"The package {package.file} does not have the checksum that the signed list"
                    " gives.",
                    "It was deleted: run it again.",
                )
        return found

    def forget_older(self, packages: Sequence[Package]) -> None:
        """Delete the files of other versions of these packages."""
        names = {package.name for package in packages}
        files = {package.file for package in packages}
        for path in self.files.glob("*.deb"):
            if path.name not in files and path.name.partition("_")[0] in names:
                path.unlink()


def parse_uris(output: str) -> list[Package]:
    """The packages in the output of `apt-get --print-uris`."""
    line = re.compile(r"'[^']*' ((\S+?)_(\S+)_(\w+)\.deb) \d+ SHA256:([0-9a-f]{64})")
    return [
        Package(
            name=match[2],
            version=unquote(match[3]),
            architecture=match[4],
            file=match[1],
            sha256=match[5],
        )
        for match in map(line.fullmatch, map(str.strip, output.splitlines()))
        if match
    ]


def newest(files: Sequence[Path]) -> int:
    """Seconds since 1970 of the latest package: no file in any of them is newer.

    dpkg-deb writes the date of a package's last change into the archive's first member, and lets
    no file inside be newer. So the same packages give the same date, whatever day they are used.
    """
    return max(_made(path) for path in files)


def _made(package: Path) -> int:
    # ar(5): magic of 8 bytes, then the member's name (16 bytes) and its time (12 bytes, decimal).
    with package.open("rb") as stream:
        head = stream.read(36)
    return int(head[24:36])
