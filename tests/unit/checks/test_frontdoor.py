"""Whether the gateway's address leads to it: with a socket here in the place of what is outside."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dozencloud.checks import frontdoor
from dozencloud.cloud.installation import Cloud, main_address
from dozencloud.cloud.settings import Gateway, Settings
from dozencloud.cloud.state import State
from dozencloud.verdicts import Level, Verdict

ROUTER = "203.0.113.77"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can listen anywhere")


def named(address: str, root: Path | None = None, port: int = 443) -> Cloud:
    return Cloud(root, Settings(gateway=Gateway(address=address, port=port)))


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    monkeypatch.setattr(frontdoor, "resolve", lambda name: addresses)


def test_nothing_said_needs_no_look() -> None:
    assert frontdoor.judge(Cloud()) == []


@pytest.mark.parametrize(
    ("cloud", "level"),
    [
        (named(main_address()), Level.OK),
        (named("127.0.0.1"), Level.OK),
        (named("172.24.4.1"), Level.OK),  # the bridge's, which is there once the cloud is up
        (named(Cloud(Path("/srv/x")).link[1], Path("/srv/x")), Level.OK),
        pytest.param(named("127.0.0.1", Path("/srv/x")), Level.BAD, marks=as_root),
        pytest.param(named(main_address(), Path("/srv/x")), Level.BAD, marks=as_root),
    ],
)
def test_addresses_of_this_machine(cloud: Cloud, level: Level) -> None:
    assert [verdict.level for verdict in frontdoor.judge(cloud)] == [level]


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch)
    (verdict,) = frontdoor.judge(named("words.example.test"))
    assert verdict == Verdict(
        "gateway",
        Level.BAD,
        "gateway.address is words.example.test, and this machine finds no IPv4 address of that "
        "name.",
        f"Enter it in DNS, or here alone: echo '{main_address()} words.example.test' | sudo tee -a "
        "/etc/hosts; or set another one in /etc/dozencloud/cloud.toml.",
    )


@as_root
def test_all_addresses_of_a_name_must_lead_here(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, "127.0.0.1", ROUTER)
    monkeypatch.setattr(frontdoor, "_comes_back", lambda cloud, address: False)
    (verdict,) = frontdoor.judge(named("words.example.test"))
    assert verdict.level is Level.BAD
    assert verdict.fact == (
        f"gateway.address is words.example.test, which leads to {ROUTER}, and nothing sent there "
        "comes to this cloud."
    )
    assert main_address() in verdict.mend


def free_port() -> int:
    with socket.create_server(("", 0)) as listener:
        return int(listener.getsockname()[1])


@as_root
@pytest.mark.parametrize(("passes_on", "level"), [(True, Level.OK), (False, Level.BAD)])
def test_a_router_in_front(passes_on: bool, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the gateway listens."""
    port = free_port()
    names(monkeypatch, ROUTER)
    connect: Callable[..., Any] = socket.create_connection

    def through(where: tuple[str, int], timeout: float) -> Any:
        assert where == (ROUTER, port)
        if not passes_on:
            raise ConnectionRefusedError
        return connect(("127.0.0.1", port), timeout)

    monkeypatch.setattr(socket, "create_connection", through)
    assert [v.level for v in frontdoor.judge(named("words.example.test", port=port))] == [level]


@as_root
@pytest.mark.parametrize(
    ("shown", "level"), [("ours", Level.OK), ("another's", Level.BAD), (None, Level.BAD)]
)
def test_a_router_in_front_of_a_gateway_that_runs(
    shown: str | None, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def certificate(where: tuple[str, int], timeout: float) -> str:
        if shown is None:
            raise ConnectionRefusedError
        return f"{shown}\n"

    monkeypatch.setattr(frontdoor.ssl, "get_server_certificate", certificate)
    monkeypatch.setattr(frontdoor.namespace, "namespace_exists", lambda cloud: True)
    monkeypatch.setattr(frontdoor.namespace, "_apart", lambda cloud: False)
    (tmp_path / "etc" / "tls").mkdir(parents=True)
    (tmp_path / "etc" / "tls" / "gateway.crt").write_text("ours\n")
    names(monkeypatch, ROUTER)
    with socket.create_server(("", 0)) as gateway:
        cloud = named("words.example.test", tmp_path, gateway.getsockname()[1])
        assert [verdict.level for verdict in frontdoor.judge(cloud)] == [level]


@as_root
def test_where_nobody_can_tell_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud that ran, and whose namespace is gone after a reboot."""
    names(monkeypatch, ROUTER)
    cloud = named("words.example.test", tmp_path)
    assert [verdict.level for verdict in frontdoor.judge(cloud)] == [Level.BAD]
    cloud.lib.mkdir()
    State.of(cloud).set("catalogue", "done")
    assert frontdoor.judge(cloud) == []
