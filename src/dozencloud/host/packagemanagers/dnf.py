"""dnf and rpm: Fedora and its relatives.

The words are those that dnf 4 and dnf 5 have in common; the messages are of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dozencloud.facts.packages import RPM_LOCKS, first_lock
from dozencloud.facts.run import ask
from dozencloud.host.packagemanagers.base import SECONDS, PackageManager, Policy, Sign
from dozencloud.tasks.graph import Step

PRESET = Path("/run/systemd/system-preset/00-dozencloud.preset")
"""Before Fedora's own (systemd.preset(5): the first line that fits decides); gone at a restart."""
LOCK_SECONDS = 120.0
"""That another program may go on installing."""


@dataclass(frozen=True)
class Dnf(PackageManager):
    """options: of dnf, rpm_options: of rpm, for the tests' own root and repository."""

    options: tuple[str, ...] = ()
    rpm_options: tuple[str, ...] = ()
    locks: tuple[Path, ...] = RPM_LOCKS

    programs = "dnf and rpm"
    proxy = "/etc/dnf/dnf.conf"
    environment: ClassVar[Mapping[str, str]] = {"LC_ALL": "C.UTF-8"}
    signs = (
        Sign(
            ("No space left on device", "more space needed on", "Not enough free space"),
            "The disk is full.",
            "Free some space in /var and /usr, then run this again.",
        ),
        Sign(
            (
                "Failed to obtain the transaction lock",
                "Failed to obtain rpm transaction lock",
                "can't create transaction lock",
                "cannot create transaction lock",
            ),
            "Another program is installing packages.",
            "Wait until it has ended, then run this again.",
        ),
        Sign(
            (
                "Could not resolve",
                "Couldn't resolve host name",
                "Could not connect",
                "Couldn't connect to server",
                "Cannot download repomd.xml",
                "Failed to download metadata",
                "No URLs in mirrorlist",
                "All mirrors were tried",
                "no more mirrors to try",
            ),
            "The mirrors of the package repositories cannot be reached.",
            "Check the network, the proxy and /etc/yum.repos.d, then run this again.",
        ),
        Sign(
            ("Unable to find a match", "No match for argument"),
            "A package is not in the enabled repositories.",
            "Enable the repositories fedora and updates in /etc/yum.repos.d, then run this again.",
        ),
        Sign(
            ("conflicting requests", "nothing provides", "Failed to resolve the transaction"),
            "The package system of this machine is in a broken state.",
            "Run: sudo dnf distro-sync",
        ),
    )

    def command(self, *words: str) -> list[str]:
        """dnf, which asks nothing."""
        return ["dnf", "--assumeyes", *self.options, "--setopt=install_weak_deps=False", *words]

    def missing(self, names: Sequence[str]) -> list[str]:
        there = set(self._there(names))
        return [name for name in names if name not in there]

    def _there(self, names: Sequence[str]) -> list[str]:
        """Those that are installed; rpm says of the others that they are not, in the same place."""
        query = ["rpm", *self.rpm_options, "-q", "--queryformat", "%{NAME}\n", *names]
        said = set(ask(*query, timeout=60).output.splitlines())
        return [name for name in names if name in said]

    def removable(self, names: Sequence[str]) -> list[str]:
        """All: dnf itself protects what the system needs (/etc/dnf/protected.d)."""
        return self._there(names)

    def offered(self, name: str) -> str:
        query = self.command("--quiet", "repoquery", "--latest-limit=1")
        return ask(*query, "--queryformat=%{version}\n", name, timeout=60).output

    def refresh(self) -> list[str]:
        return self.command("makecache")

    def install(self, names: Sequence[str]) -> list[str]:
        return self.command("install", *names)

    def remove(self, names: Sequence[str]) -> list[str]:
        return self.command("remove", *names)

    def wait(self, step: Step) -> None:
        """dnf 5 gives up at once where another program has rpm's lock (its issue 2186)."""

        def free() -> bool | str:
            lock = first_lock(self.locks)
            return f"waiting for {lock}" if lock else True

        step.until(free, seconds=LOCK_SECONDS, what="The other installation of packages")

    def repair(self, step: Step, names: Sequence[str]) -> None:
        """Those that are there are installed anew: rpm does not note whose scripts have not run."""
        if there := self._there(names):
            step.run(self.command("reinstall", *there), env=self.environment, timeout=SECONDS)

    def policy(self, units: Sequence[str]) -> Policy:
        """Scripts of Fedora's packages start nothing; they enable what the presets say."""
        lines = "".join(f"disable {unit}\n" for unit in units)
        return Policy(PRESET, f"# DozenCloud, while it installs packages.\n{lines}", 0o644)

    def to_install(self, *names: str) -> str:
        return f"dnf install {' '.join(names)}"

    def to_remove(self, *names: str) -> str:
        return f"dnf remove {' '.join(names)}"

    def to_reinstall(self, *names: str) -> str:
        return f"dnf reinstall {' '.join(names)}"

    def to_configure(self) -> str:
        return "dnf distro-sync"

    def to_fit(self) -> str:
        return "dnf distro-sync"
