"""The system: what it is, its packages, its clock, what is left of an earlier cloud."""

from __future__ import annotations

from collections.abc import Iterator

from dozencloud.checks.judges.words import is_or_are, named
from dozencloud.checks.needs import Needs
from dozencloud.facts import Facts, KvmState
from dozencloud.facts.capabilities import HELPFUL
from dozencloud.facts.system import RELEASE_YEAR, Architecture
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need
from dozencloud.verdicts import Level, Verdict


def system(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    system = facts.system
    if system.root:
        yield Verdict("root", Level.OK, "Running as root.")
    else:
        yield Verdict(
            "root",
            Level.NOTE,
            f"Without root these cannot be seen: {', '.join(_unseen(facts))}.",
            f"For all of it: {needs.command} doctor",
        )

    yield from _distribution(facts, needs)
    yield from _capabilities(facts)
    if facts.selinux:
        yield Verdict(
            "selinux",
            Level.WARN,
            "SELinux enforces its policy here, and DozenCloud was not tried with it.",
            "If a service does not start, see what was forbidden: sudo ausearch -m avc -ts recent. "
            "To allow it until this machine starts again: sudo setenforce 0",
        )
    yield Verdict(
        "init",
        Level.OK,
        "systemd runs this machine." if system.systemd else "This machine runs without systemd.",
    )

    if system.clock_plausible:
        yield _clock(facts, needs)
    else:
        yield Verdict(
            "clock",
            Level.BAD,
            f"The clock says {system.now:%Y-%m-%d}, but this release is of {RELEASE_YEAR}: "
            "certificates would not be valid.",
            "Set it: sudo date -u -s 'YYYY-MM-DD HH:MM'",
        )


def _distribution(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    found, architecture = facts.system.distribution, facts.system.architecture
    distribution = registry.find(found)
    if registry.is_supported(found) and distribution.untried:
        yield Verdict(
            "system",
            Level.WARN,
            f"The system is {found.pretty}; {distribution.untried}.",
            f"Tell us how it went. What has to work today: {registry.supported_names(tried=True)}.",
        )
    elif registry.is_supported(found):
        yield Verdict("system", Level.OK, f"The system is {found.pretty}.")
    else:
        yield Verdict(
            "system",
            Level.BAD,
            f"This is {found.pretty}; {registry.supported_names()} are supported.",
            "Install one of these, or use a virtual machine with one of them.",
        )

    if distribution.fit(architecture, node=needs.node):
        kinds = f"{architecture.packages} ({architecture.kernel} kernel)"
        yield Verdict("architecture", Level.OK, f"The architecture is {kinds}.")
    else:
        supported = " and ".join(distribution.architectures)
        packages = architecture.packages or "unknown"
        yield Verdict(
            "architecture",
            Level.BAD,
            f"The packages here are for {packages} (kernel: {architecture.kernel}); "
            f"{supported} are supported.",
            _another_architecture(architecture),
        )


def _capabilities(facts: Facts) -> Iterator[Verdict]:
    if not facts.system.root:
        return
    needed = [name for name in facts.incapable if name not in HELPFUL]
    lacking = named(f"CAP_{name.upper()}" for name in needed or facts.incapable)
    if needed:
        yield Verdict(
            "capabilities",
            Level.BAD,
            f"Root lacks {lacking} here, as in a container that was not given them.",
            "Allow them there (Docker: --privileged), or use a virtual machine.",
        )
    elif facts.incapable:
        yield Verdict(
            "capabilities",
            Level.NOTE,
            f"Root lacks {lacking} here; the cloud does without.",
        )


def _unseen(facts: Facts) -> Iterator[str]:
    """What is hidden from who is not root."""
    yield from ("services", "firewalls", "who listens on a port", "who installs packages")
    if facts.kvm.state is KvmState.UNUSABLE:
        yield "whether KVM works"
    network = facts.network
    for what, works in (
        ("TAP devices", network.tun),
        ("network namespaces", network.namespaces),
        ("nftables", network.nftables),
    ):
        if not works:
            yield f"whether {what} can be used"


def _clock(facts: Facts, needs: Needs) -> Verdict:
    clock, says = facts.clock, f"The clock says {facts.system.now:%Y-%m-%d %H:%M} UTC"
    if clock.keeper:
        return Verdict("clock", Level.OK, f"{says}; {clock.keeper} keeps it.")
    if not clock.settable:
        return Verdict("clock", Level.OK, f"{says}; the machine around this one keeps it.")
    if not facts.lacks_keeper:
        return Verdict(
            "clock",
            Level.WARN,
            f"{says}; {clock.idle[0]} is installed and does not run, so it drifts, and certificates"
            " have times in them.",
            f"Run: {_keep_clock(facts)}",
        )
    if needs.keeps_time:
        return Verdict("clock", Level.OK, f"{says}; chrony is to keep it.")
    return Verdict("clock", Level.NOTE, f"{says}; nothing keeps it.", f"Run: {_keep_clock(facts)}")


def _keep_clock(facts: Facts) -> str:
    """The command after which something keeps the clock."""
    idle = next(iter(facts.clock.idle), "")
    distribution = registry.find(facts.system.distribution)
    install = f"sudo {distribution.to_install(Need.TIME)}"
    if facts.system.systemd:
        return {
            "": install,
            "chronyd": f"sudo systemctl enable --now {distribution.time.unit}",
        }.get(idle, "sudo timedatectl set-ntp true")
    if idle in ("", "systemd-timesyncd"):  # the latter is systemd's
        return f"{install}; sudo chronyd"
    return f"sudo {idle}"


def _another_architecture(here: Architecture) -> str:
    if here.kernel in {"aarch64", "x86_64"}:
        return "Install the 64-bit edition of the system."
    if here.small:
        boards = registry.for_boards()
        return f"Use a 64-bit machine. With {boards} this one can be a node of its cloud."
    return "Use a 64-bit machine."


def packages(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    packages = facts.packages
    manager = registry.find(facts.system.distribution).manager
    if not packages.present:
        fact = f"There is no {manager.programs} here."
        yield Verdict("packages", Level.BAD, fact, f"Use {registry.supported_names()}.")
        return
    if packages.lock:
        yield Verdict(
            "packages",
            # With everything installed nobody has to wait for the lock.
            Level.NOTE if needs.installed else Level.BAD,
            f"The package system is in use by {packages.lock}.",
            f"Wait until it has ended; to see what it does: ps -fp {packages.lock.pid}",
        )
        return  # what an installation at work leaves half done is no damage
    if needs.cut_off:
        fact = "An installation of packages was cut off; the next `dozen up` finishes it."
        yield Verdict("packages", Level.NOTE, fact)
        return
    if packages.damaged:
        yield Verdict(
            "packages",
            Level.BAD,
            f"{named(packages.damaged)} {is_or_are(packages.damaged)} only half installed.",
            f"Run: sudo {manager.to_reinstall(*packages.damaged)}",
        )
    if packages.unconfigured:
        yield Verdict(
            "packages",
            Level.BAD,
            f"{named(packages.unconfigured)} {is_or_are(packages.unconfigured)} installed but not "
            "configured.",
            f"Run: sudo {manager.to_configure()}",
        )
    # A half-installed package breaks dependencies too; its own mend comes first.
    if packages.broken and not (packages.damaged or packages.unconfigured):
        yield Verdict(
            "packages",
            Level.BAD,
            f"Installed packages do not fit together ({packages.broken}).",
            f"Run: sudo {manager.to_fit()}",
        )
    if not (packages.damaged or packages.unconfigured or packages.broken):
        yield Verdict("packages", Level.OK, "The package system is in order.")


def leftovers(needs: Needs) -> Iterator[Verdict]:
    if not needs.leftovers.empty:
        yield Verdict(
            "leftovers",
            Level.BAD,
            f"An earlier cloud was removed only in part: {named(needs.leftovers.lines())}.",
            f"Run: {needs.command} destroy --yes",
        )


def environment(needs: Needs) -> Iterator[Verdict]:
    if needs.environment:
        fact = f"The Python environment in {needs.environment} is not there yet; `up` makes it."
        yield Verdict("environment", Level.NOTE, fact)
