"""Which systems go together: a node of each under a controller of each, as docs/nodes.md says.

Takes a quarter of an hour for each controller: `make pairs`.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine, missing
from servers import SECONDS, make_server

pytestmark = [
    pytest.mark.fresh,
    pytest.mark.long,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

SYSTEMS = ("bookworm", "noble", "trixie")
"""By the age of their OVN."""
SETTINGS = "/etc/dozencloud/cloud.toml"


@pytest.fixture(scope="module", params=SYSTEMS)
def controller(request: pytest.FixtureRequest, workdir: Path) -> Iterator[Machine]:
    with Machine.start(request.param, workdir) as machine:
        machine.run(["./dozen", "up", "--no-first-server"], timeout=1800, check=True)
        yield machine


@pytest.mark.parametrize("suite", reversed(SYSTEMS))
def test_a_node_of_each_system_joins_and_its_servers_have_a_network(
    controller: Machine, workdir: Path, suite: str
) -> None:
    older = SYSTEMS.index(suite) < SYSTEMS.index(controller.suite)
    written = controller.run(["grep", "^ovn = ", SETTINGS]).stdout
    line = controller.run(["./dozen", "node", "token"], timeout=1800, check=True).stdout
    with Machine.start(suite, workdir) as node:
        joined = node.run(shlex.split(line)[1:], timeout=1800)
        assert bool(joined.returncode) == (older and not written), joined.stderr[-3000:]
        if joined.returncode:
            assert "is older than the controller's" in joined.stderr
            say_so = ["sed", "-i", r's/^# ovn = .*/ovn = "23.03"/', SETTINGS]
            controller.run(say_so, check=True)
            controller.run(["./dozen", "up"], timeout=1800, check=True)
            joined = node.run(shlex.split(line)[1:], timeout=1800)
        assert joined.returncode == 0, joined.stdout[-3000:] + joined.stderr[-3000:]
        nodes = json.loads(controller.run(["./dozen", "node", "list", "--json"], check=True).stdout)
        assert {each["condition"] for each in nodes} == {"up"}
        make_server(controller, suite, node.name)
        end = time.monotonic() + SECONDS
        while (answer := controller.run(["./dozen", "ssh", suite, "uname", "-m"])).returncode:
            assert time.monotonic() < end, answer.stderr
            time.sleep(1)
        assert answer.stdout.strip() == "aarch64"
        delete = ["openstack", "server", "delete", "--wait", suite]
        controller.run(["./dozen", *delete], check=True)
        node.run(["./dozen", "leave"], check=True)
