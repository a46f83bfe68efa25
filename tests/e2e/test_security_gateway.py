"""Slow clients, guessers, large bodies, old TLS: what the gateway keeps from the services.

Only under attack does it show who waits for whom; each attack takes its 10 s.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from slowpeers import (
    BODIES,
    PATIENCE,
    Attack,
    Caller,
    addresses,
    answers,
    attacking,
    bodies,
    downloads,
    handshakes,
    head,
    heads,
    idle,
    login_of,
    ordinary,
    uploads,
)
from testcloud import Tenant, TestCloud, eventually

from dozencloud.hooks.transfers import AT_A_TIME, TOO_MANY
from dozencloud.services import ALL, gateway

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SLOW = 60
SECONDS = 5.0
HELD_UP = 10.0
"""s that no call takes, however busy the machine is, unless it waits for somebody who is slow.

How much it is slowed: bench/slowclients.py.
"""


@pytest.fixture(scope="module")
def attacker(tenant: Callable[[str], Tenant]) -> Tenant:
    return tenant("slow")


@pytest.fixture(scope="module")
def caller(cloud: TestCloud, tenant: Callable[[str], Tenant]) -> Caller:
    """Another user, with an image of a MiB."""
    other = tenant("ordinary")
    return ordinary(cloud, other, _image(other, os.urandom(1 << 20)))


@pytest.fixture(scope="module")
def senders(cloud: TestCloud) -> Iterator[Sequence[str]]:
    with addresses(cloud) as made:
        yield made


def _image(owner: Tenant, data: bytes | None = None) -> str:
    more = {} if data is None else {"data": data}
    image = owner.sdk.image
    made = image.create_image(
        name="gateway",
        disk_format="raw",
        container_format="bare",
        allow_duplicates=True,
        **more,
    )
    owner.later(lambda: image.delete_image(made))
    return str(made.id)


def _unhurt(caller: Caller) -> None:
    for name, seconds in caller.rounds(SECONDS).items():
        assert max(seconds) < PATIENCE, f"{name} failed"
        assert statistics.median(seconds) < HELD_UP, name


# ---- slow clients -------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [heads(), bodies(), idle(), handshakes()], ids=str)
def test_slow_strangers_hold_up_nobody(
    cloud: TestCloud,
    caller: Caller,
    senders: Sequence[str],
    attack: Attack,
) -> None:
    with attacking(cloud, attack, SLOW, senders[:2]):
        _unhurt(caller)


def test_slow_readers_and_uploads_of_users_hold_up_nobody(
    cloud: TestCloud,
    caller: Caller,
    senders: Sequence[str],
    attacker: Tenant,
) -> None:
    token = attacker.sdk.auth_token
    large = _image(attacker, os.urandom(16 << 20))
    empty = [_image(attacker) for _ in range(12)]
    kinds = (
        answers(token),
        downloads([(large, token)]),
        uploads([(each, token) for each in empty]),
    )
    for attack in kinds:
        with attacking(cloud, attack, SLOW, senders[:2]):
            _unhurt(caller)


def _one_too_many(downloader: Caller, sentence: str) -> None:
    """One download more is refused with that sentence."""
    time.sleep(1)
    status, headers, body = downloader.call(*downloader.calls["image data"])
    assert status == 429
    assert json.loads(body)["error"]["message"] == sentence
    assert headers["Retry-After"]


def _free_again(downloader: Caller) -> None:
    eventually(
        lambda: downloader.call(*downloader.calls["image data"])[0] == 200,
        seconds=60,
        what="a place is free again",
    )


def test_a_user_has_so_many_transfers_at_a_time_and_others_have_theirs(
    cloud: TestCloud, caller: Caller, attacker: Tenant
) -> None:
    image = _image(attacker, os.urandom(16 << 20))
    mine = ordinary(cloud, attacker, image)
    tokens = [mine.log_in()[1]["X-Subject-Token"] for _ in range(2)]
    with attacking(cloud, downloads([(image, token) for token in tokens]), AT_A_TIME + 2):
        _one_too_many(mine, TOO_MANY)
        assert caller.once("image data") < PATIENCE
    _free_again(mine)


def test_what_is_too_much_for_one_token_costs_glance_nothing(
    cloud: TestCloud, attacker: Tenant
) -> None:
    image = _image(attacker, os.urandom(16 << 20))
    mine = ordinary(cloud, attacker, image)
    with attacking(cloud, downloads([(image, mine.token)]), gateway.TRANSFERS_PER_TOKEN):
        _one_too_many(mine, gateway.SENTENCES[429])
    _free_again(mine)


def test_an_upload_without_a_token_is_refused_before_it_came(
    cloud: TestCloud, attacker: Tenant
) -> None:
    path = f"/image/v2/images/{_image(attacker)}/file"
    more = {"Content_Type": "application/octet-stream", "Content_Length": 1 << 30}
    with _tls(cloud) as client:
        client.sendall(head("PUT", path, X_Auth_Token="nobody", **more) + b"x" * 4096)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 401


# ---- guessers -----------------------------------------------------------------------------


class Guesser(threading.Thread):
    """Tries passwords as fast as it can, eight at a time."""

    def __init__(self, caller: Caller, names: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.caller, self.names, self.stopped = caller, names, threading.Event()
        self.answers: list[tuple[int, Mapping[str, str], bytes]] = []

    def run(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._guess, range(8)))

    def _guess(self, number: int) -> None:
        while not self.stopped.is_set():
            login = login_of(self.names[number % len(self.names)], secrets.token_hex(4))
            with suppress(OSError, http.client.HTTPException):
                self.answers.append(
                    self.caller.call("POST", "/identity/v3/auth/tokens", login, token="")
                )


LOCKS = 10
"""Wrong passwords with which Keystone's lock would come."""


def _failed(guessers: Sequence[Guesser]) -> int:
    return sum(status == 401 for each in guessers for status, _, _ in each.answers)


@pytest.mark.parametrize("count", [1, 12])
def test_guessing_neither_slows_nor_locks_whose_name_is_guessed(
    cloud: TestCloud,
    caller: Caller,
    senders: Sequence[str],
    count: int,
) -> None:
    name = caller.login["auth"]["identity"]["password"]["user"]["name"]
    guessers = [
        Guesser(Caller(cloud, "", {}, {}, source=source), [name, "admin", "nobody"])
        for source in senders[10 : 10 + count]
    ]
    begun = time.monotonic()
    for each in guessers:
        each.start()
    try:
        time.sleep(2)
        taken = []
        while time.monotonic() < begun + 10 or _failed(guessers) <= LOCKS:
            assert time.monotonic() < begun + 120, "nobody guesses"
            moment = time.monotonic()
            assert caller.log_in()[0] == 201
            taken.append(time.monotonic() - moment)
    finally:
        for each in guessers:
            each.stopped.set()
        for each in guessers:
            each.join(PATIENCE)
    said = [answer for each in guessers for answer in each.answers]
    tried = _failed(guessers)
    assert {status for status, _, _ in said} <= {401, 429}
    assert tried > LOCKS
    assert tried / (time.monotonic() - begun) < 12
    assert caller.log_in()[0] == 201
    assert statistics.median(taken) < HELD_UP


def test_who_asks_too_often_is_told_so(cloud: TestCloud, senders: Sequence[str]) -> None:
    """More at once than a class is. What is not refused waits, and is not waited for here."""
    caller = Caller(cloud, "", {}, {}, source=senders[30], patience=5)
    refused = []

    def ask(_: int) -> None:
        with suppress(OSError, http.client.HTTPException):
            answer = caller.call("POST", "/identity/v3/auth/tokens", {}, token="")
            if answer[0] == 429:
                refused.append(answer)

    with ThreadPoolExecutor(180) as pool:
        list(pool.map(ask, range(180)))
    assert refused
    for _, headers, body in refused:
        assert headers["Retry-After"]
        assert json.loads(body)["error"]["code"] == 429


def test_a_class_logs_in_at_once_from_one_address(caller: Caller) -> None:
    with ThreadPoolExecutor(40) as pool:
        said = list(pool.map(lambda _: caller.log_in()[0], range(40)))
    assert said == [201] * 40


def test_a_failed_login_looks_and_costs_the_same_whatever_was_wrong(
    cloud: TestCloud, caller: Caller, senders: Sequence[str], admin: Tenant
) -> None:
    name = caller.login["auth"]["identity"]["password"]["user"]["name"]
    identity = cloud.sdk.identity
    disabled = identity.create_user(
        name="disabled", password="x" * 20, domain_id="default", is_enabled=False
    )
    admin.later(lambda: identity.delete_user(disabled))

    def credential(user: str) -> dict[str, Any]:
        named = {"name": user, "domain": {"id": "default"}}
        given = {"name": "none", "secret": "x", "user": named}
        return {
            "auth": {
                "identity": {
                    "methods": ["application_credential"],
                    "application_credential": given,
                }
            }
        }

    elsewhere = login_of(name, "wrong")
    elsewhere["auth"]["identity"]["password"]["user"]["domain"] = {"name": "nowhere"}
    wrong = {
        "a wrong password": login_of(name, "wrong"),
        "no such user": login_of("nobody", "wrong"),
        "no password that one could know": login_of("nova", "wrong"),
        "disabled": login_of("disabled", "wrong"),
        "no such domain": elsewhere,
        "no such project": login_of(name, "wrong", "no such project"),
        "somebody's project": login_of("nobody", "wrong", "admin"),
        "no such credential": credential(name),
        "nobody's credential": credential("nobody"),
        "no such credential by number": {
            "auth": {
                "identity": {
                    "methods": ["application_credential"],
                    "application_credential": {"id": "0" * 32, "secret": "x"},
                }
            }
        },
    }
    # Of the processor, which other work on the machine changes least.
    used = Path(f"/proc/{cloud.pids()['keystone']}/stat")

    def spent() -> float:
        user, system = used.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    # Each from an address of its own, so that none waits for its failures.
    seconds: dict[str, list[float]] = {each: [] for each in wrong}
    said = set()
    for _ in range(5):
        for number, (what, login) in enumerate(wrong.items()):
            stranger = Caller(cloud, "", login, {}, source=senders[35 + number])
            begun = spent()
            status, _, body = stranger.log_in()
            seconds[what].append(spent() - begun)
            said.add((status, body))
    assert len(said) == 1, said
    assert said.pop()[0] == 401
    middle = {what: statistics.median(taken) for what, taken in seconds.items()}
    # Eight times, where a name that does not exist costs no hash.
    assert max(middle.values()) < 2 * min(middle.values()), middle


# ---- what a client says of itself ---------------------------------------------------------


def _tls(cloud: TestCloud, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    here = cloud.cloud
    context = context or ssl.create_default_context(cafile=str(here.ca))
    plain = socket.create_connection((here.address, here.settings.gateway.port), timeout=20)
    return context.wrap_socket(plain, server_hostname=here.address)


@pytest.mark.parametrize("path", ["identity", "identity/v3", "image", "compute", "network"])
def test_links_lead_to_the_cloud_whatever_the_client_calls_it(cloud: TestCloud, path: str) -> None:
    evil = "evil.example"
    requests = (
        f"GET /{path}/ HTTP/1.1\r\nHost: {evil}\r\n",
        f"GET https://{evil}/{path}/ HTTP/1.1\r\nHost: {evil}\r\n",
        f"GET /{path}/ HTTP/1.1\r\nHost: {cloud.cloud.address}\r\nX-Forwarded-Host: {evil}\r\n"
        f"X-Forwarded-Prefix: /{evil}\r\nForwarded: host={evil}\r\n",
    )
    for request in requests:
        with _tls(cloud) as client:
            client.sendall(f"{request}Connection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        assert answer.startswith(("HTTP/1.1 200", "HTTP/1.1 300")), answer
        assert evil not in answer
        assert f"{cloud.cloud.public_url}/{path.partition('/')[0]}" in answer


def test_every_answer_tells_browsers_to_stay_with_https(caller: Caller) -> None:
    for path in ("/identity/v3", "/compute/v2.1/servers", "/none", "/console/serial/", "/ca.crt"):
        headers = caller.call("GET", path)[1]
        assert headers["Strict-Transport-Security"] == f"max-age={gateway.HSTS_SECONDS}", path
        assert headers["X-Content-Type-Options"] == "nosniff", path


# ---- bodies -------------------------------------------------------------------------------


def _size(text: str) -> int:
    return int(text[:-1]) << {"k": 10, "m": 20}[text[-1]]


@pytest.mark.parametrize("path", BODIES)
def test_a_body_has_a_limit_and_the_refusal_is_a_sentence(caller: Caller, path: str) -> None:
    (api,) = (each.api for each in ALL if each.api and each.api.path == path.split("/")[1])
    limit = _size(api.body)
    status, _, answer = caller.call("POST", path, "x" * limit)
    assert status == 413
    error = json.loads(answer)["error"]
    assert error["message"] == gateway.SENTENCES[413]
    # What fits is for the service to judge.
    assert caller.call("POST", path, "x" * (limit // 8))[0] in (400, 403)


def test_inside_the_same_limits_hold(cloud: TestCloud) -> None:
    url = f"{cloud.cloud.internal_url}/network/v2.0/networks"
    words = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-")
    import subprocess

    enter = ["nsenter", f"--net=/run/netns/{cloud.cloud.namespace}", *words, url]
    done = subprocess.run(enter, input=b"x" * (2 << 20), check=True, capture_output=True)
    assert done.stdout == b"413"


def test_large_bodies_leave_no_large_service(cloud: TestCloud, caller: Caller) -> None:
    """40 MB of JSON took Neutron from 319 to 558 MiB."""
    pid = cloud.pids()["neutron"]

    def resident() -> float:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    before = resident()
    networks = [{"name": "x" * 200, "number": [number]} for number in range(4300)]
    with ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(caller.call, "POST", "/network/v2.0/networks", {"networks": networks})
            for _ in range(24)
        ]
    assert {call.result()[0] for call in calls} == {400}
    assert resident() < before + 96


# ---- TLS ----------------------------------------------------------------------------------


def _old(suites: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(f"{suites}:@SECLEVEL=0")
    return context


@pytest.mark.parametrize(
    "suites",
    [
        "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA",
        "ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-CAMELLIA128-SHA256:ECDHE-ECDSA-ARIA128-GCM-SHA256",
        "AES128-GCM-SHA256:AES128-SHA",
    ],
)
def test_old_suites_are_refused(cloud: TestCloud, suites: str) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _tls(cloud, _old(suites)).close()


def test_present_tls_is_spoken(cloud: TestCloud) -> None:
    with _tls(cloud, _old("ECDHE-ECDSA-AES128-GCM-SHA256")) as client:
        assert client.version() == "TLSv1.2"
    with _tls(cloud) as client:
        assert client.version() == "TLSv1.3"
    with pytest.warns(DeprecationWarning):
        before = _old("ALL", ssl.TLSVersion.TLSv1_1)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _tls(cloud, before).close()
