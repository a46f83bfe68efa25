"""Plans of clouds that nobody brings up."""

from __future__ import annotations

import tomllib
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Node, Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.settings import parse

NODE = Node("node", "chassis", "qemu", "netdev", "x86_64", kvm_present=True)


def make_plan(folder: Path, node: Node = NODE, settings: str = "") -> Plan:
    environment = folder / "environment"
    paste = environment / "etc" / "nova" / "api-paste.ini"
    paste.parent.mkdir(parents=True, exist_ok=True)
    paste.write_text("[composite:osapi_compute]\n")
    cloud = Cloud(folder / "cloud", parse(tomllib.loads(settings)))
    return Plan(cloud, node, Secrets(cloud.etc / "secrets.json"), environment)
