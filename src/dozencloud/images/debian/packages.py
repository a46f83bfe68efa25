"""Which packages an image consists of, and their files: by apt, from signed lists alone.

apt runs with state, cache and configuration of its own, as in `debs`, but its folder is kept:
lists and packages that were fetched once are not fetched again. What apt resolved here is what
mmdebstrap then installs, for it gets the same lists and the same files.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from dozencloud.errors import Exit, Problem
from dozencloud.images import debs
from dozencloud.images.debian.recipe import Architecture, Suite
from dozencloud.images.files import file_hash

SECONDS_ALL = 1800
"""For one apt command: enough for 200 MB over a slow line."""
SECONDS_TO_CONNECT = 15


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
        if not archive.keyring.is_file():
            raise Problem(
                f"Debian's signing keys are not here ({archive.keyring}).",
                "Install them: apt-get install debian-archive-keyring",
                code=Exit.UNFIT,
            )
        self._source = debs.Source(archive.mirror, suite, archive.keyring)
        self.lists = folder / "state" / "lists"
        self.files = folder / "cache" / "archives"
        self.sources = folder / "sources.list"
        self._config = folder / "apt.conf"
        self._nowhere = folder / "nowhere"
        for part in (
            self.lists / "partial",
            self.files / "partial",
            folder / "empty",
            self._nowhere / "partial",
        ):
            part.mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        self.sources.write_text(archive.lines(suite))
        self._config.write_text(_settings(folder, architecture, archive.proxy))

    def update(self) -> None:
        """Fetch the lists; what has not changed is not fetched again."""
        self._run(["update"])

    def resolve(self, wanted: Sequence[str]) -> tuple[Package, ...]:
        """The packages, all that they need, and what every Debian system has; sorted."""
        # apt prints no packages whose files it has; so it looks for them where there are none.
        nowhere = ["-o", f"Dir::Cache::archives={self._nowhere}"]
        command = [*nowhere, "install", "--print-uris", "-qq", "?essential", *wanted]
        output = self._run(command, clean=False)
        return tuple(sorted(parse_uris(output), key=lambda package: package.name))

    def fetch(self, packages: Sequence[Package]) -> tuple[Path, ...]:
        """Download what is not here yet; returns the files, checked against the list."""
        exact = [f"{p.name}={p.version}" for p in packages]
        self._run(["install", "--download-only", *exact])
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

    def _run(self, arguments: list[str], *, clean: bool = True) -> str:
        """clean: errors may be mixed into the output, which is only read for them."""
        try:
            done = subprocess.run(
                ["apt-get", "-q", *arguments],
                env={**os.environ, "APT_CONFIG": str(self._config), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if clean else subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=SECONDS_ALL,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Problem(
                f"The Debian mirror {self._source.mirror} was too slow: no end after"
                f" {SECONDS_ALL // 60} minutes.",
                "Name a nearer mirror, then run it again.",
            ) from None
        if done.returncode != 0:
            raise explain(done.stdout + (done.stderr or ""), self._source)
        return done.stdout


def explain(output: str, source: debs.Source) -> Problem:
    """What went wrong in an apt command, from its output (in English)."""
    stale = re.search(r"^E: Failed to fetch (\S+)\s+File has unexpected size", output, re.M)
    if stale:
        return Problem(
            f"The mirror is being updated: {stale[1]} does not fit its signed index yet.",
            "Run it again in some minutes, or name another mirror.",
        )
    return debs.explain(output, source)


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


def _settings(folder: Path, architecture: Architecture, proxy: str) -> str:
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Log": folder / "log",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": folder / "empty",
        "Dir::Etc::sourceparts": folder / "empty",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": folder / "empty",
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": folder / "empty",
        "APT::Architecture": architecture,
        "APT::Install-Recommends": "false",
        "APT::Get::Assume-Yes": "true",
        # Without this, an unreachable mirror is a warning and `update` succeeds.
        "APT::Update::Error-Mode": "any",
        "Acquire::ForceHash": "SHA256",
        "Acquire::Languages": "none",
        "Acquire::http::Timeout": SECONDS_TO_CONNECT,
        "Acquire::https::Timeout": SECONDS_TO_CONNECT,
        "Acquire::Retries": 2,
        # The folder is ours alone, often out of reach for apt's download user.
        "APT::Sandbox::User": "root",
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    lines.append(f'APT::Architectures {{ "{architecture}"; }};')
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    # The host's lines come after ours: what an administrator set for reaching a mirror wins.
    lines += debs.network_settings(dump.stdout)
    if proxy:
        lines += [f'Acquire::{scheme}::Proxy "{proxy}";' for scheme in ("http", "https")]
    return "\n".join([*lines, ""])
