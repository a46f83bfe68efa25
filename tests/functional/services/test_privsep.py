"""Privileged helpers: oslo.privsep's own client gets one through our server, and uses it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Node, Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.services import privsep

pytestmark = [pytest.mark.functional, pytest.mark.timeout(90)]

# What nova-compute does when it plugs a port for the first time.
CLIENT = """
import json, re, sys
from pathlib import Path
from oslo_config import cfg
from oslo_privsep import priv_context
from vif_plug_ovs import linux_net
from vif_plug_ovs.privsep import vif_plug

cfg.CONF([], project="test")
cfg.CONF.set_override("helper_command", sys.argv[1], group="vif_plug_ovs_privileged")
vif_plug.start(priv_context.Method.ROOTWRAP)  # ends with an answered PING
linux_net.create_veth_pair("dzpriv0", "dzpriv1", 1400)
made = Path("/sys/class/net/dzpriv0").exists() or "dzpriv0" in Path("/proc/net/dev").read_text()

def helpers():
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            named = (folder / "comm").read_text().strip() == "privsep-helper"
            if named and sys.argv[2] in (folder / "cmdline").read_text():
                status = (folder / "status").read_text()
                yield int(re.search(r"CapEff:\\s*(\\w+)", status)[1], 16)
        except OSError:
            pass

capabilities = list(helpers())
linux_net.delete_net_dev("dzpriv0")
left = "dzpriv0" in Path("/proc/net/dev").read_text()
print(json.dumps({"made": made, "left": left, "capabilities": capabilities}))
"""
CAP_DAC_OVERRIDE, CAP_NET_ADMIN = 1, 12  # capabilities(7)


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """With a running server of helpers, in a network namespace of its own."""
    with tempfile.TemporaryDirectory(prefix="dz") as folder:
        cloud = Cloud(Path(folder))
        node = Node("node", "chassis", "qemu", "netdev", "x86_64", kvm_present=False)
        plan = Plan(cloud, node, Secrets(cloud.etc / "secrets.json"), Path(sys.prefix))
        service = privsep.describe(plan)
        for item in service.folders:
            item.path.mkdir(parents=True, mode=item.mode)
        (cloud.run / "helper.conf").write_text("[DEFAULT]\nuse_stderr = true\n")
        search = os.pathsep.join(filter(None, sys.path))
        process = subprocess.Popen(
            ["unshare", "--net", *service.command],
            env={"PYTHONPATH": search, "PATH": os.environ["PATH"]},
        )
        try:
            end = time.monotonic() + 40
            while not service.ready():
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            yield plan
        finally:
            process.kill()
            process.wait()


def helper(plan: Plan) -> str:
    return privsep.helper_command(plan, plan.cloud.run / "helper.conf")


def test_a_client_gets_a_helper_and_works_with_it(plan: Plan) -> None:
    server = next(
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if b"dozencloud.supervision.helpers:serve\0" + os.fsencode(plan.cloud.run)
        in (folder / "cmdline").read_bytes()
    )
    done = subprocess.run(
        [
            *("nsenter", f"--net=/proc/{server}/ns/net", sys.executable, "-c", CLIENT),
            *(helper(plan), str(plan.cloud.run)),
        ],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ["PATH"]},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["made"]
    assert not report["left"]
    wanted = 1 << CAP_NET_ADMIN | 1 << CAP_DAC_OVERRIDE
    assert wanted in report["capabilities"], "the helper has not dropped what it does not need"


def test_a_helper_that_fails_says_so_to_its_caller(plan: Plan) -> None:
    words = [*helper(plan).split(), "--no-such-option"]
    done = subprocess.run(words, check=False, capture_output=True, timeout=30)
    assert done.returncode == 2


def test_the_client_needs_nothing_but_the_interpreter(plan: Plan) -> None:
    """Isolated, without site packages: it starts in some 20 ms instead of a second."""
    program, *words = helper(plan).split()
    assert program == sys.executable
    assert words[:2] == ["-I", "-S"]


def test_nobody_else_may_ask(plan: Plan) -> None:
    socket = plan.cloud.run / "privsep" / "privsep.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_without_a_server_the_client_fails(tmp_path: Path) -> None:
    from dozencloud.supervision.helpers import main

    with pytest.raises(FileNotFoundError):
        main([str(tmp_path / "none.sock"), "--x"])
