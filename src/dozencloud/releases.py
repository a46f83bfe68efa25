"""Which releases work together, and how what one wrote is read by another.

A release is MAJOR.MINOR.PATCH. A controller works with nodes of its own series (MAJOR.MINOR) and of
the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from dozencloud import SERIES

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)


class Standing(StrEnum):
    """How another release stands to this one."""

    SAME = "same series"
    BEFORE = "series before"
    TOO_OLD = "too old"
    NEWER = "newer series"

    @property
    def fits(self) -> bool:
        """Whether a node of that release works with a controller of this one."""
        return self in (Standing.SAME, Standing.BEFORE)


def numbers(release: str) -> tuple[int, ...]:
    """For comparing; what is no release comes before all others."""
    parts = release.split(".")
    return tuple(map(int, parts)) if all(p.isascii() and p.isdigit() for p in parts) else ()


def standing(release: str, known: Sequence[str] = SERIES) -> Standing:
    """How `release` stands to the last of the known series."""
    series = ".".join(release.split(".")[:2])
    if series not in known:
        return Standing.NEWER if numbers(series) > numbers(known[-1]) else Standing.TOO_OLD
    back = len(known) - 1 - known.index(series)
    return (Standing.SAME, Standing.BEFORE, Standing.TOO_OLD)[min(back, 2)]


def known(kind: type[Record], data: Mapping[str, Any]) -> Record:
    """A dataclass from JSON that another release may have written.

    Fields that this release does not know are left out; those that the other did not know need a
    default. TypeError where one without is missing.
    """
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in data.items() if name in names})
