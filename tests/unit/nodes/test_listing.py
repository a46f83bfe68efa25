"""What is said of a node that is silent, has a full disk, or a clock that is off."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import nodes_kit
import pytest

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import Member
from dozencloud.cloud.settings import parse
from dozencloud.nodes.controller import enrol
from dozencloud.nodes.listing import Condition, Row
from dozencloud.nodes.reports import Report
from dozencloud.nodes.tokens import Refused
from dozencloud.services import ovnseries

DAY = 86400.0
MEMBER = nodes_kit.MEMBER
REPORT = replace(nodes_kit.REPORT, clock=5 * DAY, seen=5 * DAY)


def row(report: Report | None, member: Member | None = MEMBER) -> Row:
    return Row("pi-1", "compute", "192.0.2.1", Condition.UP, False, (), member, report)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (REPORT, ()),
        (None, ()),
        (replace(REPORT, free=7), ("only 7 MiB of its disk are free",)),
        (replace(REPORT, clock=4 * DAY), ("its clock is 24 hours behind this machine's",)),
        (replace(REPORT, clock=6 * DAY), ("its clock is 24 hours ahead of this machine's",)),
        (replace(REPORT, clock=6 * DAY), ("run: sudo date -s '-86400 seconds'",)),
        (replace(REPORT, clock=REPORT.seen - 200), ()),
        (replace(REPORT, free=7, clock=0.0), ("only 7 MiB", "its clock is 5 days behind")),
        (replace(REPORT, release="99.1.0"), ("newer than the controller's",)),
        (replace(REPORT, release="0.0.9"), ("too old for the controller's",)),
    ],
)
def test_what_is_wrong_with_it_is_said(report: Report | None, said: tuple[str, ...]) -> None:
    found = row(report).troubles
    assert len(found) == len(said)
    assert all(words in text for words, text in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("unread", "said"),
    [
        (True, "its OVN does not take up the cloud's networks"),
        (False, "its OVN (23.03) is older than the controller's"),
    ],
)
def test_why_its_servers_have_no_network_is_said_also_before_it_has_reported(
    unread: bool, said: str
) -> None:
    cut_off = replace(row(replace(REPORT, networks="23.03")), condition=Condition.CUT_OFF)
    (found,) = replace(cut_off, unread=unread).troubles
    assert said in found
    assert replace(cut_off, unread=True, report=None).troubles


@pytest.mark.parametrize(
    ("node", "controller", "fits"),
    [
        ("23.03", "25.03", False),
        ("24.03", "25.03", False),
        ("23.03", "24.03", False),
        ("25.03", "23.03", True),
        ("25.03", "25.03", True),
        ("24.09", "24.03", True),
        ("", "25.03", True),
        ("23.03", "", True),
        ("25.3.1", "26.03", True),
    ],
)
def test_which_ovn_reads_which(node: str, controller: str, fits: bool) -> None:
    assert ovnseries.reads(node, controller) is fits


def test_a_machine_with_an_older_ovn_is_told_what_to_do_on_the_controller(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, parse({"nodes": {"ovn": "23.03"}}))
    enrol.understands(cloud, "23.03")
    enrol.understands(cloud, "")
    with pytest.raises(Refused, match="older than the controller's") as refused:
        enrol.understands(cloud, "22.09")
    assert refused.value.mend == "Install a newer Debian or Ubuntu on this machine."


@pytest.mark.parametrize(
    ("ago", "member", "silent"), [(5, MEMBER, False), (45, MEMBER, True), (45, None, False)]
)
def test_when_it_is_silent(ago: float, member: Member | None, silent: bool) -> None:
    assert row(replace(REPORT, seen=time.time() - ago), member).silent is silent
    assert not row(None, member).silent
