"""Upstream's scheduler, which also says why it found no node, and keeps servers on theirs.

Placement answers before any filter runs, and then upstream's reason is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import oslo_messaging
from nova.exception import NoValidHost
from nova.scheduler import utils
from nova.scheduler.manager import SchedulerManager
from oslo_log import log

from dozencloud.compute.scheduling.cells import refusals
from dozencloud.compute.scheduling.reasons import Amount, Asked, Candidate, why_none
from dozencloud.compute.scheduling.staying import hold

LOG = log.getLogger(__name__)

MOST_NODES = 100
"""Each costs three questions to Placement; in a larger cloud upstream's words must do."""


class Scheduler(SchedulerManager):  # type: ignore[misc]  # nova is untyped
    """What it relies on is listed in dozencloud.compute.upstream."""

    @oslo_messaging.expected_exceptions(NoValidHost)  # type: ignore[untyped-decorator]
    def select_destinations(self, context: Any, **asked: Any) -> Any:
        hold(context, asked["spec_obj"], asked.get("instance_uuids") or [])
        try:
            return super().select_destinations(context, **asked)
        except oslo_messaging.ExpectedException as error:
            refusal: NoValidHost = error.exc_info[1]
        try:
            reason = self._reason(context, asked["spec_obj"], asked.get("instance_uuids") or [])
        except Exception:
            # Whatever happens here, the answer to the request is the refusal.
            LOG.exception("No reason could be found for: %s", refusal)
            raise refusal from None
        if not reason:
            raise refusal
        # A resize does not pass it on to its user (nova/conductor/manager.py, _cold_migrate).
        LOG.info("No node takes the server: %s", reason)
        raise NoValidHost(reason=reason)

    def _reason(self, context: Any, spec: Any, uuids: list[str]) -> str:
        hosts = self.host_manager.get_host_states_by_uuids(context.elevated(), None, None)
        states = list(hosts)
        if not states:
            return "The cloud has no node that runs servers yet."
        if len(states) > MOST_NODES:
            return ""
        resources = utils.resources_from_request_spec(context, spec, self.host_manager)
        target = resources.get_request_group(None).in_tree
        excluded = frozenset(spec.ignore_hosts or ())
        eligible = [
            self._node(state)
            for state in states
            if state.host not in excluded and (not target or state.uuid == target)
        ]
        told = [
            f"{host}: {why.rstrip('.')}."
            for uuid in uuids
            for host, why in refusals(context, uuid, excluded).items()
        ]
        if eligible or not told:
            told.append(why_none(request(spec, resources, len(uuids) or 1), eligible))
        return " ".join(told)

    def _node(self, state: Any) -> Candidate:
        def ask(what: str, key: str) -> Any:
            url = f"/resource_providers/{state.uuid}/{what}"
            return self.placement_client.get(url, version="1.6").json()[key]

        return Candidate(
            enabled=not state.service["disabled"],
            up=self.servicegroup_api.service_is_up(state.service),
            runs=frozenset(arch for arch, _, _ in state.supported_instances or ()),
            traits=frozenset(ask("traits", "traits")),
            amounts=dict(amounts(ask("inventories", "inventories"), ask("usages", "usages"))),
        )


def request(spec: Any, resources: Any, count: int) -> Asked:
    """What Nova asks Placement for, by a RequestSpec and its ResourceRequest."""
    properties = spec.image.properties if spec.image else {}
    return Asked(
        architecture=properties.get("hw_emulation_architecture")
        or properties.get("hw_architecture")
        or "",
        traits=frozenset(resources.all_required_traits | spec.root_required),
        # A server that is rebuilt keeps what it has.
        resources={} if utils.request_is_rebuild(spec) else resources.merged_resources(),
        count=count,
    )


def amounts(
    inventories: dict[str, dict[str, Any]], usages: dict[str, int]
) -> Iterator[tuple[str, Amount]]:
    """Read Placement's answers, as Placement itself counts."""
    for name, each in inventories.items():
        capacity = int((each["total"] - each["reserved"]) * each["allocation_ratio"])
        yield name, Amount(min(capacity, each["max_unit"]), capacity - usages.get(name, 0))
