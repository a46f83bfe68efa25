"""The first node of a new cloud, as Nova and Placement see it."""

from __future__ import annotations

from typing import Any

from dozencloud.tasks.graph import Step


def await_listed(sdk: Any, node: str, step: Step) -> None:
    """Until Nova lists the node of that name as up and Placement knows what it has."""

    def listed() -> bool | str:
        # Other nodes may be down.
        here = sdk.compute.services(host=node)
        services = {s.binary: s.state for s in here}
        down = [
            name
            for name in ("nova-conductor", "nova-scheduler", "nova-compute")
            if services.get(name) != "up"
        ]
        if down:
            return f"{', '.join(down)} to report"
        found = any(h.name for h in sdk.compute.hypervisors())
        providers = list(sdk.placement.resource_providers())
        return True if found and providers else "the scheduler to find this node"

    step.until(listed, seconds=120, every=0.3, what="The compute service")
