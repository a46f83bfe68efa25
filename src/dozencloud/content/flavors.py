"""Sizes of servers in a new cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# name: (memory MiB, disk GiB, vCPUs)
FLAVORS: Mapping[str, tuple[int, int, int]] = {
    "m1.nano": (256, 1, 1),
    "m1.micro": (512, 4, 1),
    "m1.small": (1024, 10, 1),
    "m1.medium": (2048, 20, 2),
    "m1.large": (4096, 40, 4),
}


def make(compute: Any) -> None:
    """Those that are not there; one that somebody changed stays."""
    there = {flavor.name for flavor in compute.flavors()}
    for name, (memory, disk, cpus) in FLAVORS.items():
        if name not in there:
            compute.create_flavor(name=name, ram=memory, disk=disk, vcpus=cpus)
