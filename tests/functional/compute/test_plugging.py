"""A server's network device that Open vSwitch sets down while os-vif sets it up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.functional,
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

# In a network namespace of its own. What vswitchd does is strace's record of one such case.
SCRIPT = """
import subprocess, threading
from pathlib import Path
from vif_plug_ovs import linux_net, privsep
from dozencloud.compute.libvirt import plugging

privsep.vif_plug.set_client_mode(False)
linux_net.create_tap("tap0", 1442, "fa:16:3e:00:00:01")
vswitchd = ["ip", "link", "set", "tap0", "promisc", "on", "down"]
threading.Timer(0.2, subprocess.run, [vswitchd], {"check": True}).start()
plugging.keep_up("tap0")
print(int(Path("/sys/class/net/tap0/flags").read_text(), 16) & plugging.UP)
plugging.keep_up("gone")
"""


def test_it_is_up_in_the_end() -> None:
    inside = ["unshare", "--net", "--mount", "sh", "-c", 'mount -t sysfs sysfs /sys; exec "$@"']
    done = subprocess.run(
        [*inside, "sh", sys.executable, "-W", "ignore", "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
