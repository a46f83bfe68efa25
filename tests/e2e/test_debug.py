"""gdb on a server, by the command line, through the gateway, as users do it.

Only here gdb comes through the gateway and Nova; what it may do: tests/functional/compute.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from openstack.exceptions import NotFoundException
from testcloud import BOOT_SECONDS, Guest, Tenant, TestCloud, eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("gdb-multiarch"), reason="gdb-multiarch"),
]


class User:
    """Somebody with a clouds.yaml."""

    def __init__(self, cloud: TestCloud, tenant: Tenant, folder: Path) -> None:
        self.cloud = cloud
        options = dict(tenant.sdk.config.config)
        kept = ("auth", "region_name", "interface", "identity_api_version", "cacert")
        path = folder / f"{tenant.key_name}.yaml"
        path.write_text(json.dumps({"clouds": {"mine": {key: options[key] for key in kept}}}))
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        self.environment = {**clean, "OS_CLIENT_CONFIG_FILE": str(path), "OS_CLOUD": "mine"}

    def run(self, words: list[str], code: int = 0) -> str:
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=100,
            env=self.environment,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        return said

    def dozen(self, *words: str, code: int = 0) -> str:
        return self.run(self.cloud.words(*words), code)

    def gdb(self, said: str, *commands: str) -> str:
        """Run the command line that `dozen debug` printed, with commands for gdb."""
        (line,) = [line for line in said.splitlines() if line.startswith("  gdb-multiarch ")]
        more = [word for command in commands for word in ("-ex", command)]
        return self.run([*shlex.split(line), "-nx", "-batch", *more])


def test_a_server_of_ones_own_from_its_first_instruction(
    cloud: TestCloud, tenant: Callable[[str], Tenant], tmp_path: Path
) -> None:
    owner, stranger = tenant("debugger"), tenant("stranger")
    user, other = User(cloud, owner, tmp_path), User(cloud, stranger, tmp_path)
    held = {"dozen_debug": "30 stop-at-start"}
    server = owner.create("held", None, networks="none", metadata=held)
    compute = owner.sdk.compute
    server = compute.wait_for_server(server, interval=0.3, wait=BOOT_SECONDS)
    assert server.metadata == {}

    with pytest.raises(NotFoundException):
        stranger.sdk.compute.create_server_remote_console(server, protocol="mks", type="webmks")
    assert "There is no server called" in other.dozen("debug", server.id, code=1)
    assert "There is no server called" in other.dozen("debug", "--pipe", server.id, code=1)

    said = user.dozen("debug", "held", "--minutes", "10")
    assert "is open for gdb until" in said
    answer = user.gdb(said, "info registers pc", "monitor info qtree", "stepi", "info registers pc")
    assert "pc             0x40000000" in answer
    assert "pc             0x40000004" in answer
    assert "Target does not support this command" in answer

    def booted() -> bool:
        return "login:" in compute.get_server_console_output(server, length=50)["output"]

    eventually(booted, seconds=BOOT_SECONDS, what="it runs on after gdb has left", every=1)
    user.dozen("debug", "held", "--close")
    assert "is not open for gdb" in user.dozen("debug", "--pipe", server.id, code=1)

    said = user.dozen("debug", "held", "--stop-at-start")
    assert "waits before its first instruction" in said
    assert compute.get_server(server.id).status == "ACTIVE"
    assert "pc             0x40000000" in user.gdb(said, "info registers pc")


def test_the_administrators_server(cloud: TestCloud, first: Guest) -> None:
    cloud.dozen("debug", "first")
    records = list((cloud.root / "lib/compute/debug").glob(f"{first.id}.json"))
    assert len(records) == 1
    assert records[0].stat().st_mode & 0o777 == 0o600
    assert records[0].parent.stat().st_mode & 0o777 == 0o700
    assert first.answers()
    cloud.dozen("debug", "first", "--close")
    eventually(lambda: not records[0].exists(), seconds=20, what="it is closed")
    no = cloud.dozen("debug", "no-such-server", code=1)
    assert "There is no server called no-such-server." in no.stderr
