"""Which flows keep servers from being routers, and for whom they do not count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dozencloud.host.network.portflows import CLAIMS, DROP, PASS, flows, free_ports, secured
from dozencloud.host.network.portguard import BINDINGS, changes


def test_all_that_a_router_says_is_dropped_whoever_says_it() -> None:
    made = flows(set())
    assert len(made) == len(CLAIMS)
    for flow in made:
        assert flow.endswith(",actions=drop")
        assert f"priority={DROP}," in flow
        assert "in_port" not in flow
    for claim in ("icmp6,icmp_type=134", "udp,tp_src=67", "udp6,tp_dst=546"):
        assert sum(f"{claim}," in flow for flow in made) == 1


def test_who_is_free_comes_first_and_once() -> None:
    first, second = flows({7, 3})[len(CLAIMS) :]
    assert "in_port=3," in first
    assert "in_port=7," in second
    assert f"priority={PASS}," in first
    # What it marks, it does not match again.
    assert "metadata=0," in first
    assert first.endswith("actions=load:0xfff->OXM_OF_METADATA[0..11],resubmit(,0)")
    assert PASS > DROP


@pytest.mark.parametrize(
    ("kind", "name", "free"),
    [
        ("patch", "", True),
        ("geneve", "", True),
        ("vxlan", "", True),
        ("", "secured", False),
        ("", "open", True),
        ("", "unknown", False),
        ("", "", False),
        ("internal", "", False),
        ("gre", "", False),
    ],
)
def test_free_is_who_leads_out_or_has_no_port_security(kind: str, name: str, free: bool) -> None:
    assert free_ports([(4, kind, name)], {"secured": True, "open": False}) == (
        {4} if free else set()
    )


@pytest.mark.parametrize(
    ("parent", "children", "guarded"),
    [
        (False, [], False),
        (False, [False], False),
        (False, [False, True], True),  # a network of another's, as a VLAN of one's own port
        (False, [True, False], True),
        (True, [False], True),
    ],
)
def test_a_trunk_is_free_where_all_its_networks_are(
    parent: bool, children: list[bool], guarded: bool
) -> None:
    rows = [
        ("parent", parent, ()),
        *((f"c{i}", own, ("parent",)) for i, own in enumerate(children)),
    ]
    for order in (rows, rows[::-1]):
        assert secured(order)["parent"] is guarded


def test_a_port_that_is_not_there_is_nobody() -> None:
    assert free_ports([(-1, "patch", "")], {}) == set()


def test_changes_remove_what_goes_and_nothing_that_stays() -> None:
    before, after = flows({3, 4}), flows({4})
    said = changes(before, after)
    removed = [line for line in said if line.startswith("delete")]
    assert len(removed) == 1
    assert removed[0].startswith("delete_strict table=0,metadata=0,priority=")
    assert removed[0].endswith(",in_port=3")
    assert said[1:] == [f"add {flow}" for flow in after]
    assert not [line for line in changes(after, after) if line.startswith("delete")]


def test_what_an_earlier_guard_left_goes() -> None:
    """A port that was free may be somebody else's number by now."""
    assert changes(None, flows(set()))[0] == "delete cookie=0xd02e4/-1,table=0"


def test_what_is_read_of_ovn_is_in_its_schema() -> None:
    schema = Path("/usr/share/ovn/ovn-sb.ovsschema")
    if not schema.exists():
        pytest.skip("ovn-central is not installed")
    theirs = json.loads(schema.read_text())
    assert theirs["name"] == BINDINGS["name"]
    for table, ours in BINDINGS["tables"].items():
        for column, said in ours["columns"].items():
            assert theirs["tables"][table]["columns"][column]["type"] == said["type"]
