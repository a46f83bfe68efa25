"""Emulated ARMv8 machines with KVM join a cloud of this machine: the commands of `make` do it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.armhost,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

WIDE, NARROW = "AArch64 under KVM", "ARMv7 under KVM"


def start(what: str) -> None:
    """Ends with an error if anything is not as it must be."""
    subprocess.run([Path(__file__).with_name("start"), what], check=True)


# A node has no metadata: the key by which SSH lets us in came by the config drive.
@pytest.mark.shows("config drive", WIDE)
@pytest.mark.shows("config drive", NARROW)
@pytest.mark.shows("delete", WIDE)
@pytest.mark.shows("delete", NARROW)
def test_servers_of_both_widths_run_on_it() -> None:
    start("node")


@pytest.mark.shows("live migration", WIDE)
@pytest.mark.shows("live migration", NARROW)
def test_servers_go_from_kvm_to_kvm_while_they_run() -> None:
    start("pair")
