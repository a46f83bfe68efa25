"""Fetches packages of a foreign architecture from a Debian mirror, signatures checked by apt.

apt runs with state, cache and configuration of its own. It therefore works while the host's apt is
busy, leaves nothing on the host, and needs the foreign architecture neither enabled nor runnable.
Only the host's way to the network (proxy, address family, retries, validity dates) is taken over.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dozencloud.errors import Problem

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

SECONDS_TO_CONNECT = 15
SECONDS_ALL = 900
"""For one apt command: enough for 60 MB over a slow line."""


@dataclass(frozen=True)
class Source:
    """Where packages come from and who vouches for them."""

    mirror: str
    suite: str
    keyring: Path


def fetch(
    source: Source,
    architecture: str,
    packages: Sequence[str],
    work: Path,
    *,
    without: Sequence[str] = (),
) -> list[Path]:
    """Download the packages and what they depend on; returns the files, sorted by name.

    architecture: Debian's name (arm64, armhf).
    work: an empty directory for apt's files.
    without: packages taken for installed, so that neither they nor what only they depend on is
        fetched. For what a dependency asks for and the image does without.
    """
    if not source.keyring.is_file():
        raise Problem(
            f"Debian's signing keys are not here ({source.keyring}).",
            "Install them: apt-get install debian-archive-keyring",
        )
    config = _configure(source, architecture, work, without)
    _apt(["update"], config, source)
    _apt(["install", "--download-only", *packages], config, source)
    return sorted((work / "cache" / "archives").glob("*.deb"))


def _configure(source: Source, architecture: str, work: Path, without: Sequence[str]) -> Path:
    for folder in ("state/lists/partial", "cache/archives/partial", "empty"):
        (work / folder).mkdir(parents=True)
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
    settings = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Log": work / "log",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": work / "empty",
        "Dir::Etc::sourceparts": work / "empty",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": work / "empty",
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": work / "empty",
        "APT::Architecture": architecture,
        "APT::Install-Recommends": "false",
        "APT::Get::Assume-Yes": "true",
        # Without this, an unreachable mirror is a warning and `update` succeeds.
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::http::Timeout": SECONDS_TO_CONNECT,
        "Acquire::https::Timeout": SECONDS_TO_CONNECT,
        "Acquire::Retries": 2,
        # The work folder is ours alone, often out of reach for apt's download user.
        "APT::Sandbox::User": "root",
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    lines.append(f'APT::Architectures {{ "{architecture}"; }};')
    config = work / "apt.conf"
    # The host's lines come last: what an administrator set for reaching a mirror wins.
    config.write_text("\n".join([*lines, *_host_settings(), ""]))
    return config


def _host_settings() -> list[str]:
    found = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    return network_settings(found.stdout)


def network_settings(dump: str) -> list[str]:
    """The lines of `apt-config dump` that say how to reach a mirror."""
    return [
        line
        for line in dump.splitlines()
        if re.match(rf"(?:{'|'.join(HOST_SETTINGS)})(?:::[^ ]*)? ", line)
        and not line.endswith(' "";')
    ]


def _apt(arguments: list[str], config: Path, source: Source) -> None:
    environment = {**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            ["apt-get", "-q", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
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
            f"The Debian mirror {source.mirror} was too slow: no end after {SECONDS_ALL} s.",
            "Name a nearer mirror, then run it again.",
        ) from None
    if done.returncode != 0:
        raise explain(done.stdout, source)


def explain(output: str, source: Source) -> Problem:
    """What went wrong in an apt command, from its output (in English)."""
    errors = [line for line in output.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    detail = "\n".join((errors or output.splitlines())[-8:])
    mirror, suite = source.mirror, source.suite

    def said(*parts: str) -> bool:
        return any(part in output for part in parts)

    if said("No space left on device", "You don't have enough free space"):
        return Problem(
            "The disk became full while packages for the image were downloaded.",
            "Make about 400 MB free, then run it again.",
            detail=detail,
        )
    missing = re.search(r"Unable to locate package (\S+)", output) or re.search(
        r"Package '?([^\s']+)'? has no installation candidate", output
    )
    if missing:
        return Problem(
            f"The mirror {mirror} has no package {missing[1]} in {suite}.",
            "Name a mirror and a suite that have it (Debian 13 is trixie).",
            detail=detail,
        )
    if said("Could not resolve", "Temporary failure resolving"):
        return Problem(
            f"The name of the Debian mirror {mirror} cannot be resolved.",
            "Check the network and DNS of this machine, or set apt's proxy.",
            detail=detail,
        )
    if said("NO_PUBKEY", "is not signed", "not valid: ", "BADSIG", "couldn't be verified"):
        if said("404  Not Found", "does not have a Release file"):
            return _no_suite(source, detail)
        return Problem(
            f"What {mirror} sent for {suite} is not signed by a key in {source.keyring}.",
            "Update the package debian-archive-keyring, or use a mirror that you trust.",
            detail=detail,
        )
    if said("Could not connect", "Connection refused", "Connection timed out", "unreachable"):
        return Problem(
            f"The Debian mirror {mirror} does not answer.",
            "Check the network of this machine, or name another mirror.",
            detail=detail,
        )
    if said("404  Not Found", "does not have a Release file"):
        return _no_suite(source, detail)
    if said("is not valid yet", "is expired"):
        return Problem(
            f"The dates of {mirror} {suite} do not fit the clock of this machine.",
            "Set the clock (date), then run it again.",
            detail=detail,
        )
    return Problem(
        f"Packages for the image could not be fetched from {mirror}.",
        "The lines below say why; mend that, then run it again.",
        detail=detail,
    )


def _no_suite(source: Source, detail: str) -> Problem:
    return Problem(
        f"There is no Debian {source.suite} at {source.mirror}.",
        "Check the mirror's address (it ends with /debian on most mirrors).",
        detail=detail,
    )


def unpack(packages: Sequence[Path], root: Path) -> None:
    """Extract packages into a directory. Nothing of them is run."""
    root.mkdir(parents=True, exist_ok=True)
    for package in packages:
        done = subprocess.run(
            ["dpkg-deb", "--extract", package, root], capture_output=True, text=True, check=False
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
