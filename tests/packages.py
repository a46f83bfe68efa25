"""Installs what the functional tests need beside the environment: the packages of `dozen up`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from dozencloud.cloud.plan import FIRST
from dozencloud.cloud.state import State
from dozencloud.facts.system import system as system_facts
from dozencloud.host import machine, packages
from dozencloud.host.distributions import registry
from dozencloud.services import needs
from dozencloud.tasks.graph import Step

system = registry.here()
wanted = system.wanted(system_facts().architecture.kernel, needs(FIRST, time=False))
with tempfile.TemporaryDirectory() as folder:
    machine.RECORD = Path(folder, "machine.json")  # no cloud of this machine has asked for them
    state = State(Path(folder, "state.json"))
    packages.install(Step(sys.stderr), wanted, state)
system.bind(Path(sys.prefix))
