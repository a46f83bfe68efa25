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
from machine import SUITES, Machine, missing
from test_cuts import SECONDS, make_server

pytestmark = [
    pytest.mark.fresh,
    pytest.mark.long,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture(scope="module", params=SUITES)
def controller(request: pytest.FixtureRequest, workdir: Path) -> Iterator[Machine]:
    with Machine.start(request.param, workdir) as machine:
        machine.run(["./dozen", "up", "--no-first-server"], timeout=1800, check=True)
        yield machine


@pytest.mark.parametrize("suite", SUITES)
def test_a_node_of_each_system_joins_and_its_servers_have_a_network_or_it_is_refused(
    controller: Machine, workdir: Path, suite: str
) -> None:
    older = SUITES.index(suite) < SUITES.index(controller.suite)
    line = controller.run(["./dozen", "node", "token"], timeout=1800, check=True).stdout
    with Machine.start(suite, workdir) as node:
        joined = node.run(shlex.split(line)[1:], timeout=1800)
        if older:
            assert joined.returncode
            assert "is older than the controller's" in joined.stderr
            return
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
