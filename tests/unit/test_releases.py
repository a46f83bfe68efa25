"""Which releases go together, what each makes of what another wrote, and whose data these are."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dozencloud import RELEASE, SERIES
from dozencloud.cloud import lineage
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.lineage import Unfinished
from dozencloud.cloud.membership import Member, Membership, membership, membership_file
from dozencloud.cloud.plan import Node
from dozencloud.cloud.state import State
from dozencloud.errors import Exit, Problem
from dozencloud.lifecycle import backups, upgrade
from dozencloud.nodes.reports import Report
from dozencloud.nodes.tokens import Kept
from dozencloud.releases import Standing, known, numbers, standing

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_last_series_is_this_release_s() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["version"] == RELEASE
    assert RELEASE.startswith(f"{SERIES[-1]}.")
    assert sorted(SERIES, key=numbers) == list(SERIES)


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("1.0.7", Standing.SAME),
        ("1.0.0", Standing.SAME),
        ("0.10.3", Standing.BEFORE),
        ("0.9.3", Standing.TOO_OLD),
        ("0.1.0", Standing.TOO_OLD),
        ("1.1.0", Standing.NEWER),
        ("0.11.0", Standing.TOO_OLD),
        ("10.0.0", Standing.NEWER),
        ("", Standing.TOO_OLD),
        ("x.y", Standing.TOO_OLD),
        ("\N{SUPERSCRIPT TWO}.0.0", Standing.TOO_OLD),
    ],
)
def test_how_a_release_stands_to_this(release: str, expected: Standing) -> None:
    found = standing(release, known=("0.9", "0.10", "1.0"))
    assert found is expected
    assert found.fits == (expected in (Standing.SAME, Standing.BEFORE))


# ---- the contract: what release 0.1.0 wrote, word by word ---------------------------------
# Never changed: a field that a later release adds needs a default.

MEMBERSHIP = {
    "controller": "https://192.0.2.1",
    "node": "pi-1",
    "number": 1,
    "address": "192.0.2.9",
    "broker": 5671,
    "southbound": 6642,
    "mtu": 1500,
    "broker_password": "b",
    "identity_password": "i",
    "secret": "s",
}
MEMBER = {
    "name": "pi-1",
    "number": 1,
    "chassis": "c",
    "address": "192.0.2.9",
    "role": "compute",
    "secret": "s",
    "key": "k",
    "joined": 1.0,
}
TOKEN = {"id": "i", "hash": "h", "made": 1.0, "ends": 2.0, "role": "compute", "name": ""}
REPORT = {
    "release": "0.1.0",
    "architecture": "aarch64",
    "board": "",
    "clusters": [["Cortex-A72", 4]],
    "kvm": True,
    "aarch32": True,
    "memory": 3790,
    "available": 3000,
    "disk": 29000,
    "free": 20000,
    "temperature": None,
    "issuer": "ab12",
    "clock": 1.0,
}
NODE = {
    "name": "pi-1",
    "chassis": "c",
    "virt_type": "kvm",
    "datapath": "system",
    "architecture": "aarch64",
    "kvm_present": True,
}
WRITTEN = {Membership: MEMBERSHIP, Member: MEMBER, Kept: TOKEN, Node: NODE}


@pytest.mark.parametrize("kind", WRITTEN, ids=lambda kind: kind.__name__)
def test_what_the_first_release_wrote_is_read(kind: Any) -> None:
    data = WRITTEN[kind]
    assert {name: getattr(known(kind, data), name) for name in data} == data
    assert known(kind, {**data, "of a later one": 1}) == known(kind, data)
    with pytest.raises(TypeError):
        known(kind, dict(list(data.items())[1:]))


def test_a_report_of_another_release_is_read() -> None:
    found = Report.read(REPORT)
    assert found == Report.read({**REPORT, "of a later one": [1]})
    assert (found.release, found.clusters) == ("0.1.0", (("Cortex-A72", 4),))
    with pytest.raises(ValueError):
        Report.read({name: REPORT[name] for name in REPORT if name != "memory"})


def test_a_membership_that_a_later_release_kept_is_read(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    cloud.etc.mkdir()
    for data in (MEMBERSHIP, {**MEMBERSHIP, "of a later one": {}}):
        membership_file(cloud).write_text(json.dumps(data))
        assert membership(cloud) == Membership(**MEMBERSHIP)  # type: ignore[arg-type]
    for damaged in ("[]", "{}", '"x"', "{"):
        membership_file(cloud).write_text(damaged)
        with pytest.raises(Problem, match="is damaged"):
            membership(cloud)


# ---- whose data these are -----------------------------------------------------------------


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    """One with databases."""
    made = Cloud(tmp_path)
    for folder in (*made.folders, made.lib / "mariadb"):
        folder.mkdir()
    made.file.touch()
    return made


def state(cloud: Cloud) -> State:
    return State(cloud.lib / "state.json")


def kept(cloud: Cloud, name: str, release: str) -> None:
    folder = backups.place(cloud) / name
    folder.mkdir(parents=True)
    (folder / backups.FACTS).write_text(json.dumps({"release": release, "made": 1.0}))


def test_data_that_say_nothing_are_of_the_first_release(cloud: Cloud, tmp_path: Path) -> None:
    assert lineage.made_by(cloud) == lineage.FIRST
    assert lineage.made_by(Cloud(tmp_path / "nothing")) == RELEASE


def test_this_release_s_own_data_are_taken(cloud: Cloud) -> None:
    state(cloud).set(lineage.MADE_BY, RELEASE)
    lineage.need_release(cloud)


@pytest.mark.parametrize(
    ("made", "mend"), [("0.0.1", "upgrade$"), ("99.0.0", "go back to what was kept: .*--back")]
)
def test_another_release_s_data_are_refused(cloud: Cloud, made: str, mend: str) -> None:
    state(cloud).set(lineage.MADE_BY, made)
    with pytest.raises(Problem, match=f"is of release {made}.*{mend}") as refused:
        lineage.need_release(cloud)
    assert refused.value.code == Exit.UNFIT


@pytest.mark.parametrize(
    ("cut", "mend"),
    [
        (Unfinished(RELEASE, "99.0.0", "b"), r"checkout of 99\.0\.0: .*upgrade -- or back"),
        (Unfinished("0.0.1", RELEASE, "b"), rf"checkout of {RELEASE}: .*upgrade -- or back"),
        (Unfinished("99.0.0", RELEASE, "b", back=True), f"checkout of {RELEASE}: .*--back$"),
    ],
)
def test_nothing_is_done_where_an_upgrade_was_cut_off(
    cloud: Cloud, cut: Unfinished, mend: str
) -> None:
    state(cloud).set(lineage.MADE_BY, RELEASE)
    cut.keep(state(cloud))
    assert Unfinished.find(state(cloud)) == cut
    with pytest.raises(Problem, match=mend):
        lineage.need_release(cloud)
    if cut.target != RELEASE or cut.back:
        with pytest.raises(Problem, match="was cut off"):
            upgrade.upgrade(cloud, say=print, verbose=False)


@pytest.mark.parametrize("made", ["99.0.0", "0.0.1"])
def test_no_upgrade_from_a_newer_release_or_over_a_series(cloud: Cloud, made: str) -> None:
    state(cloud).set(lineage.MADE_BY, made)
    with pytest.raises(Problem, match=f"is of release {made}") as refused:
        upgrade.upgrade(cloud, say=print, verbose=False)
    assert refused.value.code == Exit.UNFIT


def test_no_way_back_from_this_release_itself(cloud: Cloud) -> None:
    state(cloud).set(lineage.MADE_BY, RELEASE)
    with pytest.raises(Problem, match="nothing to go back from"):
        upgrade.way_back(cloud)
    Unfinished("0.0.1", RELEASE, "b").keep(state(cloud))
    with pytest.raises(Problem, match="nothing to go back from"):
        upgrade.way_back(cloud)


def test_the_way_back_is_to_the_newest_of_this_release(cloud: Cloud) -> None:
    state(cloud).set(lineage.MADE_BY, "99.0.0")
    with pytest.raises(Problem, match="there is: nothing"):
        upgrade.way_back(cloud)
    kept(cloud, "20260101T000000Z-0.0.1", "0.0.1")
    with pytest.raises(Problem, match=r"there is: 20260101T000000Z-0\.0\.1"):
        upgrade.way_back(cloud)
    for day in ("03", "02"):
        kept(cloud, f"202601{day}T000000Z-x", RELEASE)
    found = upgrade.way_back(cloud)
    assert found and found.folder.name == "20260103T000000Z-x"
    Unfinished(RELEASE, "99.0.0", "20260102T000000Z-x").keep(state(cloud))
    found = upgrade.way_back(cloud)
    assert found and found.folder.name == "20260102T000000Z-x"


def test_the_oldest_backups_go(cloud: Cloud) -> None:
    for day in range(1, backups.KEPT + 3):
        kept(cloud, f"2026010{day}T000000Z-0.1.0", "0.1.0")
    kept(cloud, ".20260109T000000Z-0.1.0", "0.1.0")
    backups.prune(cloud)
    names = [backup.folder.name for backup in backups.all_kept(cloud)]
    assert names == [f"2026010{day}T000000Z-0.1.0" for day in range(3, backups.KEPT + 3)]
