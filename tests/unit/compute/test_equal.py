"""Whether a running server can go on running on another node."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nova.objects.hv_spec import HVSpec

from dozencloud.compute.libvirt import equal
from dozencloud.errors import Problem


def host(model: str, *in_hardware: str) -> dict[str, Any]:
    """As Nova's compute manager hands it over."""
    kinds = [("x86_64", "kvm"), ("aarch64", "qemu"), *((a, "kvm") for a in in_hardware)]
    return {
        "cpu_info": json.dumps({"arch": "aarch64", "model": model}),
        "supported_hv_specs": [HVSpec(arch=a, hv_type=h, vm_mode="hvm") for a, h in kinds],
    }


PC = host("EPYC")
A72, A76 = host("cortex-a72", "aarch64", "armv7l"), host("cortex-a76", "aarch64")


@pytest.mark.parametrize(
    ("architecture", "source", "target", "reason"),
    [
        ("aarch64", PC, PC, ""),
        ("aarch64", PC, host("i7"), ""),
        ("aarch64", A72, A72, ""),
        ("aarch64", A72, PC, "under KVM on its node, and would run emulated"),
        ("aarch64", PC, A72, "emulated on its node, and would run under KVM"),
        ("aarch64", A72, A76, "cortex-a72 on its node, cortex-a76 on the other"),
        ("armv7l", A72, A76, "under KVM on its node, and would run emulated"),
        ("armv7l", A76, PC, ""),
    ],
)
def test_equal(
    architecture: str, source: dict[str, Any], target: dict[str, Any], reason: str
) -> None:
    if not reason:
        equal.check(architecture, source, target)
        return
    with pytest.raises(Problem, match=reason):
        equal.check(architecture, source, target)
