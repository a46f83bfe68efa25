"""Services: as whom they run, and where they listen."""

from __future__ import annotations

from collections.abc import Iterator

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Plan
from dozencloud.services import ALL
from dozencloud.supervision.service import Definition, api_socket
from made import plans
from made.markdown import code, table


def users_table() -> str:
    return table(("service", "user", "on", "why root"), _users())


def listeners_table() -> str:
    return table(("service", "what", "where"), _listeners())


def _users() -> Iterator[tuple[str, str, str, str]]:
    for each in ALL:
        (user,) = {each.describe(plan).user for plan in machines(each)}
        if (user == "root") != bool(each.root):
            raise ValueError(f"{each.name} is {user}: why root, its definition says: {each.root!r}")
        yield code(each.name), user, places(each), each.root


def _listeners() -> Iterator[tuple[str, str, str]]:
    for each in ALL:
        if where := [*_sockets(each), *_said(each)]:
            yield code(each.name), each.title, ", ".join(where)


def machines(service: Definition) -> list[Plan]:
    """Of the kinds that there are, those that have it."""
    return [p for p in (plans.alone(), plans.controller(), plans.joined()) if service.here(p)]


def places(service: Definition) -> str:
    kinds = {"controller": plans.controller(), "nodes": plans.joined()}
    return ", ".join(kind for kind, plan in kinds.items() if service.here(plan))


def _sockets(service: Definition) -> Iterator[str]:
    """Of its API."""
    if api := service.api:
        names = (service.name, *((api.lane.name,) if api.lane else ()))
        yield from (code(str(api_socket(Cloud(), name))) for name in names)
        yield f"by the gateway {code(f'/{api.path}')}"


def _said(service: Definition) -> list[str]:
    """What it says of itself, on any machine."""
    said = (describe.listens for describe in map(service.describe, machines(service)))
    words = dict.fromkeys(word for text in said if text for word in text.split(", "))
    return ["a Unix socket" if word == "unix" else code(word) for word in words]
