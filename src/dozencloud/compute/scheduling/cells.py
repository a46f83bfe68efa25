"""What the database of a server's cell says of it."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, TypeVar

from nova.context import target_cell
from nova.exception import InstanceMappingNotFound
from nova.objects.instance_action import InstanceAction, InstanceActionEventList
from nova.objects.instance_mapping import InstanceMapping

Found = TypeVar("Found")


def in_cell(context: Any, uuid: str, ask: Callable[[Any], Found]) -> Found | None:
    """The answer of the database that has the server; None where none does yet."""
    try:
        mapping = InstanceMapping.get_by_instance_uuid(context, uuid)
    except InstanceMappingNotFound:
        return None
    if not mapping.cell_mapping:
        return None  # a new one
    with target_cell(context, mapping.cell_mapping) as cell:
        return ask(cell)


def refusals(context: Any, uuid: str, hosts: Container[str]) -> dict[str, str]:
    """Why those of the hosts refused the server that were asked to take it in this request.

    The conductor leaves such a host out and asks for another, without a word to the user
    (nova/conductor/tasks/live_migrate.py, _find_destination).
    """

    def ask(cell: Any) -> dict[str, str]:
        action = InstanceAction.get_by_request_id(cell, uuid, context.request_id)
        events = InstanceActionEventList.get_by_action(cell, action.id) if action else ()
        failed = [each for each in events if each.result == "Error" and each.host in hosts]
        return {each.host: each.details for each in failed if each.details}

    return in_cell(context, uuid, ask) or {}
