"""Installs what the functional tests need beside the environment: the packages of `dozen up`."""

from __future__ import annotations

import sys
from pathlib import Path

from dozencloud import facts, packages
from dozencloud.graph import Step

system = facts.gather().system
wanted = packages.wanted(
    system.distribution.id, system.distribution.version, system.architecture.kernel
)
# mariadb-dump, for the test that makes the database snapshot anew
packages.install(Step(sys.stderr), (*wanted, "mariadb-client"))
packages.link_bindings(Path(sys.prefix))
