"""Judge the facts: what is fit, what is not, and what to do about it.

Pure: facts and needs in, verdicts out. `dozen doctor` shows them all; `dozen up` asks
`need_fit` before it changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from dozencloud.checks.judges.addresses import ranges
from dozencloud.checks.judges.network import entrance, forwarding, network, outside, ports
from dozencloud.checks.judges.size import processors, size
from dozencloud.checks.judges.system import environment, leftovers, packages, system
from dozencloud.checks.needs import Needs
from dozencloud.errors import Exit, Problem
from dozencloud.facts import Facts
from dozencloud.verdicts import Level, Verdict


def examine(facts: Facts, needs: Needs) -> list[Verdict]:
    """Judge everything, in the order in which a person would mend it."""
    return [
        *system(facts, needs),
        *size(facts, needs),
        *processors(facts, needs),
        *packages(facts, needs),
        *network(facts, needs),
        *forwarding(facts, needs),
        *entrance(facts, needs),
        *outside(facts, needs),
        *ranges(facts, needs),
        *ports(facts, needs),
        *leftovers(needs),
        *environment(needs),
    ]


def need_fit(verdicts: Iterable[Verdict]) -> None:
    """Raise one Problem that names every BAD verdict; return if there is none."""
    bad = [verdict for verdict in verdicts if verdict.level is Level.BAD]
    if not bad:
        return
    first, *rest = bad
    detail = "\n".join(f"{verdict.fact} {verdict.mend}".strip() for verdict in rest)
    raise Problem(first.fact, first.mend, detail=detail, code=Exit.UNFIT)


def warnings(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """What a person should hear of, though it stops nothing."""
    return tuple(verdict for verdict in verdicts if verdict.level is Level.WARN)


def plain(verdicts: Iterable[Verdict]) -> str:
    """Lines for a terminal without colours; the mend stands under its fact."""
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.level.value:<5} {verdict.name:<14} {verdict.fact}")
        if verdict.mend:
            lines.append(f"{'':<20} -> {verdict.mend}")
    return "\n".join(lines)
