"""Whether a server that runs can go on running on another node.

Emulated, it has the same processor everywhere. Under KVM it has the host's own. libvirt does not
compare ARM processors: it calls all of them equal, or says that QEMU cannot, by its version. So
upstream's comparison is off (services/nova.py, skip_cpu_compare_on_dest).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from nova.objects.fields import HVType

from dozencloud.errors import Problem

STOPPED = "Migrate it without --live-migration: it is stopped for that, and starts there."


def check(architecture: str, source: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    """Problem where the two hosts (fields of Nova's ComputeNode) would run it differently."""
    there, here = (
        _in_hardware(architecture, each["supported_hv_specs"]) for each in (target, source)
    )
    if here != there:
        raise Problem(
            f"The server runs {_how(here)} on its node, and would run {_how(there)} on the other.",
            STOPPED,
        )
    models = [json.loads(each["cpu_info"]).get("model") for each in (source, target)]
    if here and models[0] != models[1]:
        raise Problem(
            f"The processors differ: {models[0]} on its node, {models[1]} on the other.",
            STOPPED,
        )


def _how(in_hardware: bool) -> str:
    return "under KVM" if in_hardware else "emulated"


def _in_hardware(architecture: str, said: Iterable[Any]) -> bool:
    return any(each.arch == architecture and each.hv_type == HVType.KVM for each in said)
