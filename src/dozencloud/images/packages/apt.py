"""apt with state, cache and configuration of its own, for packages that images are made from.

It works while the host's apt is busy, leaves nothing on the host, and needs a foreign architecture
neither enabled nor runnable. Only the host's way to the network (proxy, address family, retries,
validity dates) is taken over.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dozencloud.errors import Exit, Problem
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need

HOST_SETTINGS = (
    "Acquire::http",
    "Acquire::https",
    "Acquire::ForceIPv4",
    "Acquire::ForceIPv6",
    "Acquire::Retries",
    "Acquire::Check-Date",
    "Acquire::Check-Valid-Until",
    "Acquire::Max-ValidTime",
    "Acquire::Max-FutureTime",
)
"""apt settings that say how to reach a mirror; never those that say whom to trust."""

KEYS = "debian-archive-keyring"
"""Debian's own package, which its installer brings."""
OLDER = {"trixie": "bookworm"}
"""The release before."""

UPDATED = (
    r"^E: Failed to fetch (\S+/dists/\S+(?=\s+(?:File has unexpected size|Hash Sum mismatch))"
    r"|\S+/pool/\S+(?=\s+404))"
)
"""What apt says of a mirror in the middle of an update."""

SECONDS_TO_CONNECT = 15
SECONDS_ALL = 1800
"""For one command: enough for 200 MB over a slow line."""


@dataclass(frozen=True)
class Source:
    """Where packages come from and who vouches for them."""

    mirror: str
    suite: str
    keyring: Path

    @property
    def older(self) -> Source | None:
        """The same of the release before, whose lists change only every few months."""
        before = OLDER.get(self.suite)
        return replace(self, suite=before) if before else None


class MirrorIsUpdated(Problem):
    """The mirror's lists of packages do not fit its signed index: some are older, some newer.

    A matter of minutes on most mirrors; on some, of days, for the less common architectures.
    """


def require_keys(keyring: Path) -> None:
    """Raise Problem unless the keys that vouch for packages are here."""
    if not keyring.is_file():
        names = registry.here().packages(Need.ARCHIVE_KEYS) or (KEYS,)
        raise Problem(
            f"Debian's signing keys are not here ({keyring}).",
            f"Install them: {registry.here().manager.to_install(*names)}",
            code=Exit.UNFIT,
        )


def configure(folder: Path, architecture: str, *, proxy: str = "") -> Path:
    """Make the folders and the file that APT_CONFIG names; returns the file.

    architecture: Debian's name (arm64, armhf).   proxy: URL; by default that of the host's apt.
    The caller writes `status` (what counts as installed) and `sources.list` into the folder.
    """
    for part in ("state/lists/partial", "cache/archives/partial", "empty"):
        (folder / part).mkdir(parents=True, exist_ok=True)
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
    # The host's lines come after ours: what an administrator set for reaching a mirror wins.
    lines += _host_settings()
    if proxy:
        lines += [f'Acquire::{scheme}::Proxy "{proxy}";' for scheme in ("http", "https")]
    config = folder / "apt.conf"
    config.write_text("\n".join([*lines, ""]))
    return config


def run(arguments: Sequence[str], config: Path, source: Source, *, clean: bool = False) -> str:
    """Run apt-get and return its output.

    clean: without what it says about errors and warnings.
    """
    try:
        done = subprocess.run(
            ["apt-get", "-q", *arguments],
            env={**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if clean else subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SECONDS_ALL,
            check=False,
        )
    except FileNotFoundError:
        raise Problem(
            "There is no apt-get on this machine.",
            "The image is made from Debian's packages: run this on Debian or Ubuntu.",
        ) from None
    except subprocess.TimeoutExpired:
        raise Problem(
            f"The Debian mirror {source.mirror} was too slow: no end after"
            f" {SECONDS_ALL // 60} minutes.",
            "Name a nearer mirror, then run it again.",
        ) from None
    if done.returncode != 0:
        raise cause(done.stdout + (done.stderr or ""), source)
    return done.stdout


def _host_settings() -> list[str]:
    found = subprocess.run(
        ["apt-config", "dump"], capture_output=True, text=True, check=False, timeout=60
    )
    return network_settings(found.stdout)


def network_settings(dump: str) -> list[str]:
    """The lines of `apt-config dump` that say how to reach a mirror."""
    return [
        line
        for line in dump.splitlines()
        if re.match(rf"(?:{'|'.join(HOST_SETTINGS)})(?:::[^ ]*)? ", line)
        and not line.endswith(' "";')
    ]


@dataclass(frozen=True)
class _Cause:
    """signs: what is found in apt's output, all of it.

    what, mend: sentences with {mirror}, {suite} and {keyring} of the source, and with {found}, what
    the first sign has in parentheses.
    """

    signs: tuple[str, ...]
    what: str
    mend: str


_UNSIGNED = "NO_PUBKEY|is not signed|not valid: |BADSIG|couldn't be verified"
_ABSENT = "404  Not Found|does not have a Release file"
_NO_PACKAGE = (
    "The mirror {mirror} has no package {found} in {suite}.",
    "Name a mirror and a suite that have it (Debian 13 is trixie).",
)
_NO_SUITE = (
    "There is no Debian {suite} at {mirror}.",
    "Check the mirror's address (it ends with /debian on most mirrors).",
)
_CAUSES = (
    _Cause(
        ("No space left on device|You don't have enough free space",),
        "The disk became full while packages for the image were downloaded.",
        "Make about 400 MB free, then run it again.",
    ),
    _Cause((r"Unable to locate package (\S+)",), *_NO_PACKAGE),
    _Cause((r"Package '?([^\s']+)'? has no installation candidate",), *_NO_PACKAGE),
    _Cause(
        ("Could not resolve|Temporary failure resolving",),
        "The name of the Debian mirror {mirror} cannot be resolved.",
        "Check the network and DNS of this machine, or set apt's proxy.",
    ),
    _Cause((_UNSIGNED, _ABSENT), *_NO_SUITE),
    _Cause(
        (_UNSIGNED,),
        "What {mirror} sent for {suite} is not signed by a key in {keyring}.",
        "Update the package debian-archive-keyring, or use a mirror that you trust.",
    ),
    _Cause(
        ("Could not connect|Connection refused|Connection timed out|unreachable",),
        "The Debian mirror {mirror} does not answer.",
        "Check the network of this machine, or name another mirror.",
    ),
    _Cause((_ABSENT,), *_NO_SUITE),
    _Cause(
        ("is not valid yet|is expired",),
        "The dates of {mirror} {suite} do not fit the clock of this machine.",
        "Set the clock (date), then run it again.",
    ),
    _Cause(
        ("",),
        "Packages for the image could not be fetched from {mirror}.",
        "The lines below say why; mend that, then run it again.",
    ),
)
"""The first whose signs are all found explains the output."""


def cause(output: str, source: Source) -> Problem:
    """What went wrong in an apt command, from its output (in English)."""
    stale = re.search(UPDATED, output, re.M)
    if stale:
        return MirrorIsUpdated(
            f"The mirror is being updated: {stale[1]} does not fit its signed index yet.",
            "Run it again in some minutes, or name another mirror.",
        )
    cause = next(c for c in _CAUSES if all(re.search(sign, output) for sign in c.signs))
    first = re.search(cause.signs[0], output)
    what = cause.what.format(
        mirror=source.mirror,
        suite=source.suite,
        keyring=source.keyring,
        found="".join(first.groups()) if first else "",
    )
    errors = [line for line in output.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    return Problem(what, cause.mend, detail="\n".join((errors or output.splitlines())[-8:]))
