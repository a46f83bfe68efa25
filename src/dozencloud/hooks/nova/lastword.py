"""Nova's conductor, which passes on why the last node did not start a server.

Where one node fails Nova asks the next. When none is left it says that alone ("Exceeded maximum
number of retries", nova/conductor/manager.py); what the node said is lost, although it came along.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from nova.conductor import manager
from nova.exception import NovaException, NoValidHost

told: ContextVar[str] = ContextVar("told", default="")
"""What the last node said of the server that this request is about."""


class LastWord(NovaException):  # type: ignore[misc]  # nova is untyped
    """A node's own sentence."""

    msg_fmt = "%(reason)s"


def of_node(filter_properties: Mapping[str, Any] | None) -> str:
    """What the node before said; empty where none was asked.

    A failed build has it as a sentence; a failed resize as the last lines of a traceback
    (nova/compute/manager.py, _do_build_and_run_instance and _reschedule_resize_or_reraise).
    """
    retry = (filter_properties or {}).get("retry") or {}
    if reason := retry.get("exc_reason"):
        return str(reason)
    return "".join(retry.get("exc") or ()).strip().partition(": ")[2]


class ComputeTaskManager(manager.ComputeTaskManager):  # type: ignore[misc]  # nova is untyped
    def build_instances(
        self,
        context: Any,
        instances: Any,
        image: Any,
        filter_properties: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        before = told.set(of_node(filter_properties))
        try:
            return super().build_instances(
                context, instances, image, filter_properties, *args, **kwargs
            )
        finally:
            told.reset(before)

    def migrate_server(
        self, context: Any, instance: Any, scheduler_hint: Any, *args: Any, **kwargs: Any
    ) -> Any:
        before = told.set(of_node((scheduler_hint or {}).get("filter_properties")))
        try:
            return super().migrate_server(context, instance, scheduler_hint, *args, **kwargs)
        finally:
            told.reset(before)

    def _set_vm_state_and_notify(
        self,
        context: Any,
        instance_uuid: Any,
        method: Any,
        updates: Any,
        ex: Any,
        request_spec: Any,
    ) -> None:
        if told.get() and isinstance(ex, NoValidHost):
            ex = LastWord(reason=told.get())
        super()._set_vm_state_and_notify(context, instance_uuid, method, updates, ex, request_spec)


def use() -> None:
    """Put it in upstream's place."""
    manager.ComputeTaskManager = ComputeTaskManager
