"""`dozen bench` measures a server of the cloud, beside the machine itself.

Only in a server does the program run by SSH as a user would run it; it takes its 5 s per machine.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from xml.etree import ElementTree

import pytest
from testcloud import Guest, TestCloud, new_key

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_server_beside_this_machine(cloud: TestCloud, first: Guest, tmp_path: Path) -> None:
    first.wait()
    picture = tmp_path / "bench.svg"
    words = ("bench", "--here", "first", "--user", "root", "--json", "--output", str(picture))
    data = json.loads(cloud.dozen(*words).stdout)
    host, guest = data["machines"]
    assert data["baseline"] == host["name"] == "this machine"
    assert host["architecture"] == platform.machine()
    assert (guest["name"], guest["architecture"]) == ("first", "aarch64")
    if platform.machine() == "x86_64":
        assert guest["runs"] == "emulated"
        assert guest["cpu"].startswith("Cortex-")
        assert not guest["counters"].startswith("real")
    measured = [{(f["name"], f["bytes"]) for f in machine["figures"]} for machine in (host, guest)]
    assert measured[1] <= measured[0], "the machine has more memory than the server"
    assert len(measured[1]) > 20
    assert all(sample > 0 for figure in guest["figures"] for sample in figure["samples"])
    root = ElementTree.parse(picture).getroot()  # noqa: S314  (our own)
    assert "dozen bench: this machine and first" in root.itertext()
    assert first.run("ls -A /root | grep -c dozen-bench || true", user="root") == "0"


def test_why_a_server_cannot_be_measured(cloud: TestCloud, first: Guest, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    new_key(stranger)
    for words, reason in (
        (("nobody",), "There is no server called nobody."),
        (("first", "--key", str(stranger)), "does not take the key"),
    ):
        done = cloud.dozen("bench", *words, code=1)
        assert reason in done.stderr
