"""Tokens: what one looks like, who may use it, when it ends; nothing secret is kept."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest

from dozencloud.cloud import certificates, tls
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.membership import nodes_folder
from dozencloud.errors import Exit, Problem
from dozencloud.nodes import tokens
from dozencloud.nodes.tokens import Refused, Token


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    cloud = Cloud(tmp_path)
    tls.folder(cloud).mkdir(parents=True)
    certificates.issue_gateway(cloud)
    return cloud


def spend(cloud: Cloud, token: Token, key: str = "key-1", node: str = "pi-1") -> tokens.Kept:
    return tokens.spend(cloud, token.id, token.secret, key=key, node=node)


def test_a_token_is_read_as_it_was_written(cloud: Cloud) -> None:
    made = tokens.make(cloud, lifetime=60)
    assert Token.parse(f" {made}\n") == made
    assert made.authority == certificates.fingerprint(certificates.authority(cloud).certificate)


@pytest.mark.parametrize(
    "text",
    ["", "dz1", "dz1.ab.cd.ef", f"dz2.{'a' * 64}.{'b' * 8}.{'c' * 48}", f"dz1.{'a' * 64}"],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="not a token") as refused:
        Token.parse(text)
    assert refused.value.code is Exit.USAGE


def test_the_secret_is_nowhere_on_the_controller(cloud: Cloud) -> None:
    made = tokens.make(cloud, lifetime=60)
    spend(cloud, made)
    for file in cloud.etc.rglob("*"):
        if file.is_file():
            assert made.secret not in file.read_text()
    kept = nodes_folder(cloud) / "tokens.json"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_one_machine_may_come_again_another_may_not(cloud: Cloud) -> None:
    made = tokens.make(cloud, lifetime=60)
    assert spend(cloud, made).node == "pi-1"
    assert spend(cloud, made).node == "pi-1"
    with pytest.raises(Refused, match="was used by the node pi-1 already"):
        spend(cloud, made, key="key-2", node="pi-2")


def test_of_many_at_once_one_gets_it(cloud: Cloud) -> None:
    made = tokens.make(cloud, lifetime=60)
    won: list[str] = []

    def come(number: int) -> None:
        with contextlib.suppress(Refused):
            won.append(spend(cloud, made, key=f"key-{number}", node=f"pi-{number}").node)

    threads = [threading.Thread(target=come, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_wrong_secret_is_refused(cloud: Cloud) -> None:
    made = tokens.make(cloud, lifetime=60)
    with pytest.raises(Refused, match="does not know this token"):
        tokens.spend(cloud, made.id, "0" * 48, key="key", node="pi")
    assert spend(cloud, made).key == "key-1"


def test_it_ends(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokens.make(cloud, lifetime=60)
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 61)
    with pytest.raises(Refused, match="has ended"):
        spend(cloud, made)
    assert tokens.all_kept(cloud) == []


def test_one_for_a_name_is_for_that_name(cloud: Cloud) -> None:
    made = tokens.make(cloud, lifetime=60, name="pi-7")
    with pytest.raises(Refused, match="for a node called pi-7, and this machine is pi-1"):
        spend(cloud, made)
    assert spend(cloud, made, node="pi-7").node == "pi-7"


def test_revoked_it_is_unknown(cloud: Cloud) -> None:
    made, other = tokens.make(cloud, lifetime=60), tokens.make(cloud, lifetime=60)
    tokens.revoke(cloud, made.id)
    with pytest.raises(Refused, match="does not know this token"):
        spend(cloud, made)
    assert [kept.id for kept in tokens.all_kept(cloud)] == [other.id]
    with pytest.raises(Problem, match="no token"):
        tokens.revoke(cloud, made.id)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("30m", 1800), ("1h", 3600), ("7d", 604800), ("30d", 2592000)]
)
def test_times(text: str, seconds: int) -> None:
    assert tokens.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "1", "h", "-1h", "1.5h", "31d", "99999d", "1h "])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(Problem, match="is not a time") as refused:
        tokens.seconds(text)
    assert refused.value.code is Exit.USAGE
