"""Traces: a marker is found as a whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from dozencloud.facts.traces import Trace, Traces, carries, parse_nft_tables


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/run/dozencloud", True),
        ("/run/dozencloud/db.sock", True),
        ("--config=/run/dozencloud/nova.conf", True),
        ("unix:/run/dozencloud/db.sock", True),
        ("guest=x,path=/run/dozencloud,server=on", True),
        ("see /run/dozencloud.", True),
        ("/run/dozencloud2", False),
        ("/run/dozencloud-test/db.sock", False),
        ("/run/dozencloud.old", False),
        ("/srv/a/run/dozencloud/db.sock", False),
        ("/var/run/dozencloud", False),
    ],
)
def test_carries(text: str, found: bool) -> None:
    assert carries(text, "/run/dozencloud") is found
    assert carries(text, "/run/dozencloud/") is found


def test_nft_tables() -> None:
    assert parse_nft_tables("table ip nat\ntable inet dozencloud\n") == (
        "ip nat",
        "inet dozencloud",
    )


def test_lines() -> None:
    assert Traces().empty
    assert Traces().lines() == []
    traces = Traces(
        processes=(Trace(812, "ovsdb-server --remote=x"),),
        interfaces=("dz-int",),
        namespaces=("dz-meta",),
        tables=("inet dozencloud",),
        directories=(Path("/run/dozencloud"),),
    )
    assert not traces.empty
    assert traces.lines() == [
        "process ovsdb-server --remote=x (pid 812)",
        "interface dz-int",
        "network namespace dz-meta",
        "nft table inet dozencloud",
        "directory /run/dozencloud",
    ]
