"""Tasks of `up`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dozencloud import facts
from dozencloud.lifecycle.bringup import Bringup
from dozencloud.services import services
from dozencloud.tasks.graph import Task
from made import plans
from made.markdown import code, codes, table


def tasks_table() -> str:
    plan = plans.controller()
    tasks = Bringup(plan, facts.gather()).tasks()
    names = {service.name for service in services(plan)}
    return table(("task", "what", "after"), _rows(tasks, names))


def _rows(tasks: Iterable[Task], services: set[str]) -> Iterator[tuple[str, str, str]]:
    """Services share a row, where the first of them is."""
    starts = [task for task in tasks if task.name in services]
    for task in tasks:
        if task.name not in services:
            yield code(task.name), task.title, codes(task.after)
        elif task is starts[0]:
            yield "one for each service", "It runs, and does its work", _needed(starts, services)


def _needed(starts: list[Task], services: set[str]) -> str:
    needs = [[name for name in task.after if name not in services] for task in starts]
    some = dict.fromkeys(name for names in needs for name in names)
    every = [name for name in some if all(name in names for names in needs)]
    others = [name for name in some if name not in every]
    return f"{codes(every)}, and what it says itself: other services, {codes(others)}"
