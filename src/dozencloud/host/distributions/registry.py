"""Which distributions there are: every file of this folder that defines one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from dozencloud.facts.system import OsRelease, os_release
from dozencloud.host import distributions
from dozencloud.host.distributions.base import Distribution

FIRST = "debian"
"""What an unknown system is taken for, by who insists (DOZEN_UNSUPPORTED=1)."""


@cache
def known() -> dict[str, type[Distribution]]:
    """All of them, by their ID."""
    for module in pkgutil.iter_modules(distributions.__path__, f"{distributions.__name__}."):
        importlib.import_module(module.name)
    return Distribution.known


def find(release: OsRelease) -> Distribution:
    """The distribution of that system, or the nearest one that it is made from."""
    classes = known()
    nearest = next((name for name in (release.id, *release.like) if name in classes), FIRST)
    return classes[nearest](release.version)


def is_supported(release: OsRelease) -> bool:
    """Whether it is one of ours itself, in one of its supported versions."""
    return release.id in known() and find(release).supported


def supported_names(*, tried: bool = False) -> str:
    """For people: "Debian 12, Debian 13 and Ubuntu 24.04"; the untried last, or left out."""
    classes = sorted(known().values(), key=lambda each: bool(each.untried))
    classes = [each for each in classes if not (tried and each.untried)]
    *others, last = (name for each in classes for name in each.names())
    return f"{', '.join(others)} and {last}"


def for_boards() -> str:
    """For people: those that 32-bit boards can be nodes with."""
    found = [
        f"{each.name} {version}" for each in known().values() for version in each.board_versions
    ]
    return " or ".join(found)


@cache
def here() -> Distribution:
    """That of this machine."""
    return find(os_release())
