"""Packages of the system that a cloud needs: which, and their installation and removal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.state import State
from dozencloud.errors import Problem
from dozencloud.facts import Facts
from dozencloud.host import machine
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.base import Distribution
from dozencloud.host.distributions.needs import Need
from dozencloud.host.packagemanagers.base import SECONDS, Policy
from dozencloud.tasks.graph import Step

BEGUN = "packages-begun"
"""In the cloud's state while packages are installed: units of theirs that were in use before."""
INSTALLED = "packages-installed"
"""In the state of a cloud of a release before: what `machine` remembers now."""
BOOTED = Path("/run/systemd/system")
"""There where systemd runs the machine (sd_booted(3))."""


def keeps_time(cloud: Cloud, found: Facts) -> bool:
    """Whether this cloud sees to the machine's clock; one with a root of its own never does."""
    return cloud.root is None and found.lacks_keeper


def names(found: Facts, needs: Iterable[Need]) -> tuple[str, ...]:
    """Of all packages for these needs of this machine."""
    system = found.system
    return registry.find(system.distribution).wanted(system.architecture.kernel, needs)


def missing(names: tuple[str, ...]) -> list[str]:
    """Those that are not installed (or not configured)."""
    return registry.here().manager.missing(names)


def install(
    step: Step, names: tuple[str, ...], state: State, system: Distribution | None = None
) -> None:
    """Install what is missing, without starting any daemon; finish what was cut off before."""
    system = system or registry.here()
    manager = system.manager
    todo = manager.missing(names)
    cut_off = state.get(BEGUN)
    if not todo and cut_off is None:
        return
    before = in_use(system.units) if cut_off is None else set(cut_off)
    state.set(BEGUN, sorted(before))
    machine.remember(todo)
    policy = manager.policy(system.units)
    _lift(policy)
    if not policy.path.exists():
        policy.path.parent.mkdir(parents=True, exist_ok=True)
        policy.path.write_text(policy.text)
        policy.path.chmod(policy.mode)
    try:
        manager.wait(step)
        step.note("package lists")
        step.run(manager.refresh(), env=manager.environment, timeout=300)
        if cut_off is not None:
            step.note("an earlier installation that was cut off")
            manager.repair(step, names)
        if todo:
            step.note(f"{len(todo)} packages and what they need")
            step.run(manager.install(todo), env=manager.environment, timeout=SECONDS)
    except Problem as problem:
        raise manager.cause(problem) from problem
    finally:
        _lift(policy)
    new = sorted(in_use(system.units) - before)
    if new:
        step.run(["systemctl", "disable", "--now", "--quiet", *new], check=False)
    state.set(BEGUN, None)


def remove_policy() -> None:
    """Let packages start their daemons again; somebody else's policy stays."""
    system = registry.here()
    _lift(system.manager.policy(system.units))


def _lift(policy: Policy) -> None:
    with suppress(OSError):
        if policy.path.read_text() == policy.text:
            policy.path.unlink()


def in_use(units: tuple[str, ...]) -> set[str]:
    """Those that are enabled or run on this machine; none without systemd."""
    if not BOOTED.is_dir():
        return set()
    show = ["systemctl", "show", "--property=UnitFileState,ActiveState", *units]
    result = subprocess.run(show, check=True, capture_output=True, text=True, timeout=60)
    # A paragraph for each unit, in this order, also for one that is not there.
    paragraphs = result.stdout.strip("\n").split("\n\n")
    states = (set(paragraph.splitlines()) for paragraph in paragraphs)
    used = {"UnitFileState=enabled", "ActiveState=active", "ActiveState=activating"}
    return {unit for unit, state in zip(units, states, strict=True) if state & used}


def purge(say: Callable[[str], None], system: Distribution | None = None) -> list[str]:
    """Remove the packages that were installed for clouds of this machine; returns their names."""
    manager = (system or registry.here()).manager
    installed = manager.removable(machine.packages())
    if installed:
        say(f"{len(installed)} packages go")
        result = subprocess.run(
            manager.remove(installed),
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **manager.environment},
            timeout=SECONDS,
        )
        if result.returncode:
            raise Problem(
                "The packages could not be removed.",
                f"Run: sudo {manager.to_remove(*installed)}",
                detail="\n".join(result.stderr.splitlines()[-8:]),
            )
    machine.forget_packages()
    return installed
