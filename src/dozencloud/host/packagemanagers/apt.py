"""apt and dpkg: Debian, Ubuntu and what is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from dozencloud.facts.packages import apt_packages
from dozencloud.facts.run import ask
from dozencloud.host.packagemanagers.base import SECONDS, PackageManager, Policy, Sign
from dozencloud.tasks.graph import Step

CONFIGURED = ("installed", "triggers-awaited", "triggers-pending")
"""dpkg's words for a package that works; another package's triggers may still run (dpkg(1))."""
# apt asks it before it starts a daemon; 101 = forbidden (deb-policy, policy-rc.d(8)).
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# DozenCloud, while it installs packages: start no daemon.\nexit 101\n"


def command(*words: str) -> list[str]:
    """apt-get, which asks nothing and waits for others."""
    return [
        *("apt-get", "--quiet", "--assume-yes", "--no-install-recommends"),
        *("-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"),
        *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
        # The packages can be installed again; no need to wait for the disk after each file.
        *("-o", "Dpkg::Options::=--force-unsafe-io"),
        *words,
    ]


class Apt(PackageManager):
    programs = "apt-get and dpkg"
    proxy = "/etc/apt/apt.conf.d"
    environment: ClassVar[Mapping[str, str]] = {
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        "NEEDRESTART_SUSPEND": "1",
    }
    signs = (
        Sign(
            (
                "Could not resolve",
                "Could not connect",
                "Temporary failure resolving",
                "Unable to connect",
            ),
            "The Debian package mirror cannot be reached.",
            "Check the network, the proxy and /etc/apt/sources.list, then run this again.",
        ),
        Sign(
            ("Unable to locate package", "has no installation candidate"),
            "A package is not in the enabled package sources.",
            "Enable the distribution's main sources (Ubuntu: universe too), then run this again.",
        ),
        Sign(
            ("No space left on device", "You don't have enough free space"),
            "The disk is full.",
            "Free some space in /var and /usr, then run this again.",
        ),
        Sign(
            ("Could not get lock",),
            "Another program is installing packages.",
            "Wait until it has ended, then run this again.",
        ),
        Sign(
            (
                "dpkg was interrupted",
                "unmet dependencies",
                "Unmet dependencies",
                "error processing package",
            ),
            "The package system of this machine is in a broken state.",
            "Run: sudo dpkg --configure -a && sudo apt-get --fix-broken install",
        ),
    )

    def missing(self, names: Sequence[str]) -> list[str]:
        query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names]
        said = ask(*query, timeout=60).output
        there = {
            name
            for name, status in (line.split() for line in said.splitlines())
            if status in CONFIGURED
        }
        return [name for name in names if name not in there]

    def removable(self, names: Sequence[str]) -> list[str]:
        """All but essential packages, which apt does not let go.

        Fields of deb-control(5); `Important` is apt's older word for `Protected`.
        """
        fields = "${Essential}${Protected}${Important}"
        query = ["dpkg-query", "--show", f"--showformat=${{Package}} {fields}\n", *names]
        said = ask(*query, timeout=60).output
        words = (line.split() for line in said.splitlines())
        return [name for name, *kept in words if not any("yes" in each for each in kept)]

    def offered(self, name: str) -> str:
        return ask("apt-cache", "policy", name).output

    def refresh(self) -> list[str]:
        return command("update")

    def install(self, names: Sequence[str]) -> list[str]:
        return command("install", *names)

    def remove(self, names: Sequence[str]) -> list[str]:
        return ["apt-get", "--quiet", "--assume-yes", "purge", "--autoremove", *names]

    def wait(self, step: Step) -> None:
        """apt does, see DPkg::Lock::Timeout."""

    def repair(self, step: Step, names: Sequence[str]) -> None:
        """See dpkg(1), --configure and --audit; dpkg itself knows which packages it was at."""
        # Fails where a package waits for another that is not unpacked yet; apt sees to that.
        configure = ["dpkg", "--configure", "--pending", "--force-confdef", "--force-confold"]
        step.run(configure, env=self.environment, timeout=SECONDS, check=False)
        if damaged := apt_packages().damaged:
            reinstall = command("install", "--reinstall", *damaged)
            step.run(reinstall, env=self.environment, timeout=SECONDS)
        step.run(command("--fix-broken", "install"), env=self.environment, timeout=SECONDS)

    def policy(self, units: Sequence[str]) -> Policy:
        return Policy(POLICY, POLICY_TEXT, 0o755)

    def to_install(self, *names: str) -> str:
        return f"apt-get install {' '.join(names)}"

    def to_remove(self, *names: str) -> str:
        return f"apt-get purge --autoremove {' '.join(names)}"

    def to_reinstall(self, *names: str) -> str:
        return f"apt-get install --reinstall {' '.join(names)}"

    def to_configure(self) -> str:
        return "dpkg --configure -a"

    def to_fit(self) -> str:
        return "apt-get --fix-broken install"
