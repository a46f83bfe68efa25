"""A verdict: a judgement of facts, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. Only BAD stops `dozen up`."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Verdict:
    """One judgement: `fact` is one sentence, `mend` the next step or empty."""

    name: str
    level: Level
    fact: str
    mend: str = ""

    def to_json(self) -> dict[str, str]:
        """The same as plain values."""
        return {
            "name": self.name,
            "level": self.level.value,
            "fact": self.fact,
            "mend": self.mend,
        }
