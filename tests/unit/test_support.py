"""The table of what works says what the tests prove, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages_kit import read, rows, section

CHECKOUT = Path(__file__).resolve().parents[2]
KINDS = (
    *("AArch64 by UEFI", "AArch64 by kernel", "ARMv7 by UEFI", "ARMv7 by kernel"),
    *("AArch64 under KVM", "ARMv7 under KVM"),
)
NOT_TRIED = "not tried"


def shown() -> dict[tuple[str, str], set[str]]:
    """Feature and kind of server -> kinds of tests that prove it."""
    words = ["pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", "-p", "shown"]
    done = subprocess.run(
        [sys.executable, "-m", *words, "tests/armhost", "tests/e2e", "tests/functional"],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "DOZEN_LONG": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[tuple[str, str], set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("SHOWS\t"):
            _, test, feature, kind = line.split("\t")
            found.setdefault((feature, kind), set()).add(test)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="some tests are collected for root only")
def test_every_cell_is_proved_by_a_test() -> None:
    pytest.importorskip("libvirt")
    told = rows(section(read("docs/servers.md"), "What works for which server"))
    table = {
        (row[0], kind): cell for row in told for kind, cell in zip(KINDS, row[1:], strict=True)
    }
    proved = shown()
    assert {kind for _, kind in proved} <= set(KINDS)
    assert {feature for feature, _ in proved} <= {feature for feature, _ in table}
    for cell, says in table.items():
        assert says == (", ".join(sorted(proved.get(cell, ()))) or NOT_TRIED), cell
