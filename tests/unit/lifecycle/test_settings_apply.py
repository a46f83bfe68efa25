"""Each setting of cloud.toml changes what a service is started with, or is applied otherwise."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from facts_kit import GOOD
from nodes_kit import MEMBER

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.settings import Settings, parse
from dozencloud.cloud.state import REGISTERED, State
from dozencloud.facts.cpu import Cluster
from dozencloud.lifecycle.bringup import Bringup
from dozencloud.lifecycle.node import decide_node
from dozencloud.lifecycle.preflight import kept_settings, ranges
from dozencloud.services import services
from dozencloud.supervision.client import variables

NAMES = [
    f"{section.name}.{f.name}" for section in fields(Settings) for f in fields(section.default)
]
MACHINE = replace(GOOD, cpu=replace(GOOD.cpu, clusters=(Cluster("A53", (0, 1, 2, 3)),)))
CARD = """
[network]
provider_interface = "eth9"
provider_cidr = "203.0.113.0/24"
provider_gateway = "203.0.113.1"
floating_range = "203.0.113.20-203.0.113.30"
"""
CHANGED: dict[str, str] = {
    "gateway.address": '"192.0.2.5"',
    "network.provider_cidr": '"203.0.113.0/24"',
    "network.tenant_cidr": '"203.0.113.0/24"',
    "network.project_cidr": '"10.99.0.0/16"',
    "network.dns": '["192.0.2.1"]',
    "network.datapath": '"system"',
    "network.tunnels": '"vxlan"',
    "compute.virt_type": '"kvm"',
    "compute.dedicated_cpus": '"1"',
    "nodes.ovn": '"23.03"',
    "image.mirror": '"http://192.0.2.1/debian"',
    "image.suite": '"bookworm"',
    "image.mirrors": '["debian=https://192.0.2.1"]',
    "image.download_from": '["192.0.2.0/24"]',
}
"""Other values, as cloud.toml has them; of numbers a larger one is taken, else the opposite."""
OTHERWISE: dict[str, Callable[[Bringup], Any]] = {
    **dict.fromkeys(
        (
            *("network.provider_cidr", "network.provider_gateway", "network.floating_range"),
            *("network.tenant_cidr", "network.dns"),
        ),
        lambda made: made.cloud.registered,
    ),
    "network.project_cidr": lambda made: made.cloud.projects,
    # A verdict says that it was changed (test_preflight).
    "network.provider_interface": lambda made: made.cloud.settings.network.provider_interface,
    "nodes.migration": lambda made: made._migration,
    "services.preload": lambda made: made.running.parent_fingerprint,
    "image.mirror": lambda made: made.content.image_inputs,
    "image.suite": lambda made: made.content.image_inputs,
    # Each `image get` reads it.
    "image.mirrors": lambda made: made.cloud.settings.image.mirrors,
}
"""What the tasks of `up` look at, beside the services."""


def bringup(folder: Path, settings: str) -> Bringup:
    environment = folder / "environment"
    paste = environment / "etc" / "nova" / "api-paste.ini"
    paste.parent.mkdir(parents=True, exist_ok=True)
    paste.write_text("[composite:osapi_compute]\n")
    cloud = Cloud(folder / "cloud", parse(tomllib.loads(settings)))
    node = replace(decide_node(cloud, MACHINE), chassis="c")
    secrets = Secrets(cloud.etc / "secrets.json")
    return Bringup(
        Plan(cloud, node, secrets, environment, members=(MEMBER,), takes_nodes=True), MACHINE
    )


def started_with(made: Bringup) -> dict[str, Any]:
    """What a change of restarts a service (`Running.fingerprint`)."""
    return {
        service.name: (
            list(service.command),
            sorted(variables(service).items()),
            [(str(file.path), file.content) for file in service.files],
        )
        for service in services(made.plan)
    }


def changed(name: str, default: Any) -> str:
    section, _, field = name.partition(".")
    if name in ("network.provider_interface", "network.provider_gateway", "network.floating_range"):
        return CARD
    if name not in CHANGED:
        other = not default if isinstance(default, bool) else default + 50
        return f"[{section}]\n{field} = {str(other).lower()}\n"
    return f"[{section}]\n{field} = {CHANGED[name]}\n"


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_applied(name: str, tmp_path: Path) -> None:
    section, _, field = name.partition(".")
    default = getattr(getattr(Settings(), section), field)
    before, after = bringup(tmp_path, ""), bringup(tmp_path, changed(name, default))
    if name in OTHERWISE:
        assert OTHERWISE[name](before) != OTHERWISE[name](after)
    else:
        assert started_with(before) != started_with(after)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read the state")
@pytest.mark.parametrize(
    ("settings", "said", "mend"),
    [
        ("", [], ""),
        ('[network]\nprovider_cidr = "203.0.113.0/24"', ["bad"], "Set it back, or destroy"),
        ('[network]\ntenant_cidr = "203.0.113.0/24"', ["warn"], "Set it back: a subnet keeps"),
        ('[network]\ndns = ["192.0.2.1"]', ["warn"], "Change it there, too: openstack subnet set"),
    ],
)
def test_what_was_changed_too_late_is_said(
    tmp_path: Path, settings: str, said: list[str], mend: str
) -> None:
    cloud = Cloud(tmp_path)
    assert kept_settings(cloud) == [], "nothing is registered yet"
    cloud.lib.mkdir()
    State.of(cloud).set(REGISTERED, cloud.registered)
    found = kept_settings(replace(cloud, settings=parse(tomllib.loads(settings))))
    assert [verdict.level for verdict in found] == said
    assert all(v.name == "settings" and v.mend.startswith(mend) for v in found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read the state")
def test_addresses_are_those_that_the_cloud_was_made_with(tmp_path: Path) -> None:
    """A setting that came too late is refused, and no advice is given for its new value."""
    cloud = Cloud(tmp_path)
    later = '[network]\nprovider_cidr = "203.0.113.0/24"\ntenant_cidr = "192.0.2.0/24"'
    changed = replace(cloud, settings=parse(tomllib.loads(later)))
    assert cloud.provider not in [each.network for each in ranges(changed, node=False)]
    cloud.lib.mkdir()
    State.of(cloud).set(REGISTERED, cloud.registered)
    found = {each.network: each.made for each in ranges(changed, node=False)}
    assert found[cloud.provider]
    assert found[cloud.tenant]
    assert changed.provider not in found
    assert changed.tenant not in found
