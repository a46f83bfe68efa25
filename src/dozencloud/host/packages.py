"""Debian packages that a cloud needs, per distribution, and how they are installed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.state import State
from dozencloud.errors import Problem
from dozencloud.facts import Facts
from dozencloud.facts.packages import packages as package_facts
from dozencloud.facts.run import ask
from dozencloud.host import machine
from dozencloud.tasks.graph import Step

OWN = {
    "ca-certificates": "certificates of servers outside",
    "debian-archive-keyring": "Debian's signing keys, for the ARM image; Debian itself has them",
    "e2fsprogs": "the file system of the ARM image's state disk",
    "ethtool": "sees that packets to servers are complete where Open vSwitch moves them in user "
    "space",
    "fping": "asks the routers of all projects at once whether they answer",
    "iproute2": "namespaces, links, addresses",
    "libseccomp2": "the lists of system calls that services may not use; apt needs it, too",
    "nftables": "addresses of servers that go out",
    "openssh-client": "logs in to servers",
}
"""What no service takes, but the machine itself or a command, and what for. For the others the
definitions of the services say it."""
COMMON = (
    "ca-certificates",
    "e2fsprogs",
    "genisoimage",
    "iproute2",
    "ipxe-qemu",
    "libnginx-mod-stream",
    "libseccomp2",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "nftables",
    "nginx",
    "openvswitch-switch",
    "ovn-host",
    "python3-libvirt",
    "qemu-efi-aarch64",
    "qemu-efi-arm",
    "qemu-system-arm",
    "qemu-utils",
)
CONTROL = (
    "ethtool",
    "fping",
    "gpgv",
    "haproxy",
    "iptables",
    "mariadb-client",
    "mariadb-client-core",
    "mariadb-server-core",
    "memcached",
    "openssh-client",
    "ovn-central",
    "rabbitmq-server",
)
"""Besides, on a controller."""
TIME = "chrony"
"""Where nothing keeps the clock on time."""
BY_MACHINE = {"x86_64": ("qemu-system-x86",)}
BY_DISTRIBUTION = {
    # From Debian 13 on the driver's own package makes the user.
    ("debian", "12"): ("libvirt-daemon-system",),
    # Packages of their own since libvirt 10.6.
    ("debian", "13"): ("libvirt-daemon-driver-storage", "libvirt-daemon-log"),
    ("ubuntu", "24.04"): ("debian-archive-keyring", "libvirt-daemon-system"),
}
# Units that the packages start or enable by themselves; the cloud runs its own instances.
UNITS = (
    "haproxy.service",
    "memcached.service",
    "nginx.service",
    "openvswitch-switch.service",
    "ovn-central.service",
    "ovn-host.service",
    "rabbitmq-server.service",
    "epmd.service",
    "epmd.socket",
    "libvirt-guests.service",
    "libvirtd.service",
    "libvirtd.socket",
    "libvirtd-admin.socket",
    "libvirtd-ro.socket",
    "virtlockd.service",
    "virtlockd.socket",
    "virtlockd-admin.socket",
    "virtlogd.service",
    "virtlogd.socket",
    "virtlogd-admin.socket",
)
# apt asks it before it starts a daemon; 101 = forbidden (deb-policy, policy-rc.d(8)).
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# DozenCloud, while it installs packages: start no daemon.\nexit 101\n"


SECONDS = 1800.0
"""Within which apt ends."""
CONFIGURED = ("installed", "triggers-awaited", "triggers-pending")
"""dpkg's words for a package that works; another package's triggers may still run (dpkg(1))."""


def wanted(
    distribution: str,
    version: str,
    machine: str,
    *,
    control: bool = True,
    time: bool = False,
) -> tuple[str, ...]:
    """Names of all packages for that system.

    control: false on a node that joins a cloud. time: nothing else keeps the clock.
    """
    extra = BY_MACHINE.get(machine, ()) + BY_DISTRIBUTION.get((distribution, version), ())
    extra += (TIME,) if time else ()
    return tuple(sorted({*COMMON, *(CONTROL if control else ()), *extra}))


def keeps_time(cloud: Cloud, found: Facts) -> bool:
    """Whether this cloud sees to the machine's clock; one with a root of its own never does."""
    return cloud.root is None and found.lacks_keeper


def wanted_by(cloud: Cloud, found: Facts, *, control: bool) -> tuple[str, ...]:
    """Names of all packages for this machine."""
    system = found.system
    return wanted(
        system.distribution.id,
        system.distribution.version,
        system.architecture.kernel,
        control=control,
        time=keeps_time(cloud, found),
    )


def missing(names: tuple[str, ...]) -> list[str]:
    """Those that are not installed (or not configured)."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names]
    said = ask(*query, timeout=60).output
    there = {
        name
        for name, status in (line.split() for line in said.splitlines())
        if status in CONFIGURED
    }
    return [name for name in names if name not in there]


def apt(*words: str) -> list[str]:
    return [
        *("apt-get", "--quiet", "--assume-yes", "--no-install-recommends"),
        *("-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"),
        *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
        # The packages can be installed again; no need to wait for the disk after each file.
        *("-o", "Dpkg::Options::=--force-unsafe-io"),
        *words,
    ]


APT_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
    "NEEDRESTART_SUSPEND": "1",
}


BEGUN = "packages-begun"
"""In the cloud's state while packages are installed: those of UNITS that were in use before."""
INSTALLED = "packages-installed"
"""In the state of a cloud of a release before: what `machine` remembers now."""
BOOTED = Path("/run/systemd/system")
"""There where systemd runs the machine (sd_booted(3))."""


def install(step: Step, names: tuple[str, ...], state: State) -> None:
    """Install what is missing, without starting any daemon; finish what was cut off before."""
    todo = missing(names)
    cut_off = state.get(BEGUN)
    if not todo and cut_off is None:
        return
    before = _in_use() if cut_off is None else set(cut_off)
    state.set(BEGUN, sorted(before))
    machine.remember(todo)
    remove_policy()
    if not POLICY.exists():
        POLICY.write_text(POLICY_TEXT)
        POLICY.chmod(0o755)
    try:
        step.note("package lists")
        step.run(apt("update"), env=APT_ENVIRONMENT, timeout=300)
        if cut_off is not None:
            step.note("an earlier installation that was cut off")
            _repair(step)
        if todo:
            step.note(f"{len(todo)} packages and what they need")
            step.run(apt("install", *todo), env=APT_ENVIRONMENT, timeout=SECONDS)
    except Problem as problem:
        raise _cause(problem) from problem
    finally:
        remove_policy()
    new = sorted(_in_use() - before)
    if new:
        step.run(["systemctl", "disable", "--now", "--quiet", *new], check=False)
    state.set(BEGUN, None)


def removable(names: Sequence[str]) -> list[str]:
    """Those that are there and that apt lets go: a system is not to lose its essential packages.

    Fields of deb-control(5); `Important` is apt's older word for `Protected`.
    """
    fields = "${Essential}${Protected}${Important}"
    query = ["dpkg-query", "--show", f"--showformat=${{Package}} {fields}\n", *names]
    said = ask(*query, timeout=60).output
    words = (line.split() for line in said.splitlines())
    return [name for name, *kept in words if not any("yes" in each for each in kept)]


def remove_policy() -> None:
    """Let packages start their daemons again; somebody else's policy stays."""
    with suppress(OSError):
        if POLICY.read_text() == POLICY_TEXT:
            POLICY.unlink()


def _repair(step: Step) -> None:
    """Finish what dpkg had begun when it was killed (dpkg(1), --configure and --audit)."""
    # Fails where a package waits for another that is not unpacked yet; apt sees to that.
    configure = ["dpkg", "--configure", "--pending", "--force-confdef", "--force-confold"]
    step.run(configure, env=APT_ENVIRONMENT, timeout=SECONDS, check=False)
    damaged = package_facts().damaged
    if damaged:
        step.run(apt("install", "--reinstall", *damaged), env=APT_ENVIRONMENT, timeout=SECONDS)
    step.run(apt("--fix-broken", "install"), env=APT_ENVIRONMENT, timeout=SECONDS)


def _in_use() -> set[str]:
    """Those of UNITS that are enabled or run on this machine; none without systemd."""
    if not BOOTED.is_dir():
        return set()
    show = ["systemctl", "show", "--property=UnitFileState,ActiveState", *UNITS]
    result = subprocess.run(show, check=True, capture_output=True, text=True, timeout=60)
    # A paragraph for each unit, in this order, also for one that is not there.
    paragraphs = result.stdout.strip("\n").split("\n\n")
    states = (set(paragraph.splitlines()) for paragraph in paragraphs)
    used = {"UnitFileState=enabled", "ActiveState=active", "ActiveState=activating"}
    return {unit for unit, state in zip(UNITS, states, strict=True) if state & used}


def _cause(problem: Problem) -> Problem:
    """The usual causes of a failed apt-get, said in words."""
    text = problem.detail
    for sign, what, mend in (
        (
            (
                "Could not resolve",
                "Could not connect",
                "Temporary failure resolving",
                "Unable to connect",
            ),
            "The Debian package mirror cannot be reached.",
            "Check the network, the proxy and /etc/apt/sources.list, then run this again.",
        ),
        (
            ("Unable to locate package", "has no installation candidate"),
            "A package is not in the enabled package sources.",
            "Enable the distribution's main sources (Ubuntu: universe too), then run this again.",
        ),
        (
            ("No space left on device", "You don't have enough free space"),
            "The disk is full.",
            "Free some space in /var and /usr, then run this again.",
        ),
        (
            ("Could not get lock",),
            "Another program is installing packages.",
            "Wait until it has ended, then run this again.",
        ),
        (
            (
                "dpkg was interrupted",
                "unmet dependencies",
                "Unmet dependencies",
                "error processing package",
            ),
            "The package system of this machine is in a broken state.",
            "Run: sudo dpkg --configure -a && sudo apt-get --fix-broken install",
        ),
    ):
        if any(part in text for part in sign):
            return Problem(what, mend, detail=text)
    return problem


def link_bindings(environment: Path) -> list[Path]:
    """Debian's libvirt bindings into the Python environment (PyPI has them as source only).

    They are for the system's own Python, which the environment is made from.
    """
    source = Path("/usr/lib/python3/dist-packages")
    (target,) = environment.glob("lib/python3.*/site-packages")
    links = []
    for path in [*source.glob("libvirt*.py"), *source.glob("libvirtmod*.so")]:
        link = target / path.name
        if not link.is_symlink():
            link.unlink(missing_ok=True)
            link.symlink_to(path)
        links.append(link)
    return links
