"""Installs what the functional tests need beside the environment: the packages of `dozen up`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from dozencloud import facts
from dozencloud.cloud.state import State
from dozencloud.host import machine, packages
from dozencloud.tasks.graph import Step

system = facts.gather().system
wanted = packages.wanted(
    system.distribution.id, system.distribution.version, system.architecture.kernel
)
with tempfile.TemporaryDirectory() as folder:
    machine.RECORD = Path(folder, "machine.json")  # no cloud of this machine has asked for them
    state = State(Path(folder, "state.json"))
    packages.install(Step(sys.stderr), wanted, state)
packages.link_bindings(Path(sys.prefix))
