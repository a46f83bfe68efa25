"""An emulated ARMv8 machine with KVM: our driver's domains start in hardware, of both widths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import disks
import guests
import plan
import pytest
import run as command

pytestmark = [pytest.mark.armhost, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def outcome() -> Iterator[command.Outcome]:
    """What the machine of the short run said."""
    (wanted,) = plan.SHORT
    with guests.temporary() as folder:
        yield command.execute(wanted, Path(folder), disks.default_suite(), command.find_uv(), print)


def test_machine_is_as_it_must_be(outcome: command.Outcome) -> None:
    assert outcome.complaints() == []


@pytest.mark.parametrize(
    "guest",
    [
        pytest.param(guest, marks=[pytest.mark.shows(what, kind) for what in ("boot", *plan.LIFE)])
        for guest, kind in ((plan.V8, "AArch64 under KVM"), (plan.V7, "ARMv7 under KVM"))
    ],
    ids=lambda guest: guest.name,
)
def test_server_runs_with_kvm(outcome: command.Outcome, guest: plan.Guest) -> None:
    assert list(plan.complaints(guest, outcome.results[guest.name])) == []
