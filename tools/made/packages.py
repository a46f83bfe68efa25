"""Packages of the system that `up` installs, with what takes them and where."""

from __future__ import annotations

from collections.abc import Iterator

from dozencloud.host import packages
from dozencloud.services import ALL
from made.markdown import code, table


def packages_table() -> str:
    return table(("package", "why", "where"), _rows())


def installed() -> set[str]:
    """All that any machine gets."""
    special = (*packages.BY_MACHINE.values(), *packages.BY_DISTRIBUTION.values())
    more = (name for names in special for name in names)
    return {*packages.COMMON, *packages.CONTROL, packages.TIME, *more}


def reasons() -> dict[str, list[str]]:
    """Package -> what the machine and its services take it for."""
    found: dict[str, list[str]] = {name: [why] for name, why in packages.OWN.items()}
    for service in ALL:
        for name, why in service.packages.items():
            if why not in found.setdefault(name, []):
                found[name].append(why)
    return found


def _rows() -> Iterator[tuple[str, str, str]]:
    why = reasons()
    for name in sorted(installed()):
        yield code(name), "; ".join(why[name]), _where(name)


def _where(name: str) -> str:
    """On which machines; empty: on all."""
    found = ["controller"] if name in packages.CONTROL else []
    if name == packages.TIME:
        found.append("where nothing else keeps the clock")
    found += [kind for kind, names in packages.BY_MACHINE.items() if name in names]
    found += [
        f"{system.capitalize()} {version}"
        for (system, version), names in packages.BY_DISTRIBUTION.items()
        if name in names
    ]
    return ", ".join(found)
