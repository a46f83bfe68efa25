"""How a node goes: what it may still do when, and what keeps it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dozencloud.cloud.installation import Cloud
from dozencloud.nodes.controller import departing
from dozencloud.nodes.tokens import Refused


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in its order; the server `web` is on pi-2. The real thing needs a cloud."""
    calls: list[str] = []
    compute = SimpleNamespace(
        servers=lambda **_: [SimpleNamespace(name="web", compute_host="pi-2")],
        services=lambda **_: [SimpleNamespace(id="s")],
        delete_service=lambda _: calls.append("records of Nova and Placement"),
    )
    network = SimpleNamespace(
        agents=lambda **_: ["agent"], delete_agent=lambda _: calls.append("agent of Neutron")
    )

    def noted(name: str) -> Any:
        return lambda *_, **__: calls.append(name)

    sdk = SimpleNamespace(compute=compute, network=network)
    monkeypatch.setattr(departing, "_connect", lambda _: sdk)
    monkeypatch.setattr(departing.broker, "revoke", noted("account of the broker"))
    monkeypatch.setattr(departing.identity, "revoke", noted("account of Keystone"))
    monkeypatch.setattr(departing.authority, "replace", noted("certificates"))
    monkeypatch.setattr(departing.opening, "apply", noted("ports"))
    monkeypatch.setattr(departing.Plan, "kept", lambda _: None)
    return calls


def test_its_accounts_end_before_its_records(done: list[str], tmp_path: Path) -> None:
    """A nova-compute that could still speak would enter the node again."""
    departing.let_go(Cloud(tmp_path), "pi-1")
    assert done == [
        *("account of the broker", "account of Keystone", "certificates", "ports"),
        *("records of Nova and Placement", "agent of Neutron"),
    ]


def test_with_servers_on_it_nothing_is_done(done: list[str], tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"1 server\(s\) are on pi-2: web"):
        departing.let_go(Cloud(tmp_path), "pi-2")
    assert done == []
