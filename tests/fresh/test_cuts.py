"""Power cuts of a whole machine, ten in a row: all is back with one `dozen start`.

The machine is switched off as if the plug were pulled: every process is killed, /run, namespaces
and network devices are gone. Takes half an hour for each system: `make cuts`.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from machine import SUITES, Machine, missing
from servers import SECONDS, make_server

pytestmark = [
    pytest.mark.fresh,
    pytest.mark.long,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]
CUTS = 10


@dataclass
class Pair:
    """A controller with one node, and the floating IPs of servers on both by name."""

    controller: Machine
    node: Machine
    servers: dict[str, str]

    def dozen(self, *words: str) -> str:
        return self.controller.run(["./dozen", *words], check=True).stdout

    def back(self) -> dict[str, float]:
        """Seconds until each floating IP let somebody log in."""
        took, began = {}, time.monotonic()
        for name, address in self.servers.items():
            while (answer := self.controller.run(["./dozen", "ssh", name, "hostname"])).returncode:
                assert time.monotonic() - began < SECONDS, f"{name} ({address}): {answer.stderr}"
                time.sleep(1)
            assert answer.stdout.strip() == name
            took[name] = time.monotonic() - began
        return took


@pytest.fixture(scope="module", params=SUITES)
def pair(request: pytest.FixtureRequest, workdir: Path) -> Iterator[Pair]:
    with (
        Machine.start(request.param, workdir) as controller,
        Machine.start(request.param, workdir) as node,
    ):
        controller.run(["./dozen", "up", "--no-first-server"], timeout=1800, check=True)
        line = controller.run(["./dozen", "node", "token"], timeout=1800, check=True).stdout
        node.run(shlex.split(line)[1:], timeout=1800, check=True)
        servers = {
            name: make_server(controller, name, machine.name)
            for name, machine in (("near", controller), ("near2", controller), ("far", node))
        }
        pair = Pair(controller, node, servers)
        pair.back()
        yield pair


@pytest.mark.parametrize("number", range(1, CUTS + 1))
@pytest.mark.parametrize("which", ["controller", "node"])
def test_one_start_brings_all_back(pair: Pair, which: str, number: int) -> None:
    machine: Machine = getattr(pair, which)
    machine.power_off()
    machine.power_on()
    began = time.monotonic()
    started = machine.run(["./dozen", "start"], timeout=900)
    assert started.returncode == 0, started.stdout[-3000:] + started.stderr[-3000:]
    ready = time.monotonic() - began
    took = pair.back()
    print(f"cut {number} of the {which}: start {ready:.0f} s, then", took)
    status = machine.run(["./dozen", "status"])
    assert status.returncode == 0, status.stdout
    assert "bad " not in machine.run(["./dozen", "doctor"], check=True).stdout
    assert "Nothing to change" in machine.run(["./dozen", "start"], check=True).stdout
