"""Odd requests are refused with a sentence; no service falls over them, or tells how it is made."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from testcloud import Tenant, TestCloud

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BAD: dict[str, Any] = {
    "surrogate": "\ud800",
    "NUL": "a\0b",
    "emoji": "\U0001f600",
    "long": "a" * 70000,
    "large": 1 << 40,
    "huge": 10**30,
    "negative": -1,
    "list": [],
    "object": {"a": []},
    "null": None,
    "float": 1e308,
    "true": True,
    "path": "../..",
    "control": "\x1b[31m\n",
    "not a number": float("nan"),
}
IT = "@"
"""Where a bad value goes."""
ROUTER = "network:router_interface"
BODIES: tuple[tuple[str, Any], ...] = (
    ("/network/v2.0/networks", {"network": {"name": IT}}),
    ("/network/v2.0/networks", {"network": {"mtu": IT}}),
    ("/network/v2.0/networks", {"network": IT}),
    ("/network/v2.0/subnetpools", {"subnetpool": {"name": IT, "prefixes": ["10.0.0.0/8"]}}),
    ("/network/v2.0/subnets", {"subnet": {"network_id": "NET", "ip_version": 4, "cidr": IT}}),
    ("/network/v2.0/ports", {"port": {"network_id": "NET", "mac_address": IT}}),
    ("/network/v2.0/ports", {"port": {"network_id": "NET", "allowed_address_pairs": [IT]}}),
    (
        "/network/v2.0/ports",
        {"port": {"network_id": "NET", "device_owner": ROUTER, "device_id": IT}},
    ),
    ("/network/v2.0/rbac-policies", {"rbac_policy": {"object_type": IT, "object_id": "NET"}}),
    ("/image/v2/images", {"name": "x", "foo": IT}),
    ("/image/v2/images", {"name": "x", "kernel_id": IT}),
    ("/image/v2/images", {"name": "x", "min_disk": IT}),
    ("/image/v2/images", IT),
    ("/compute/v2.1/servers", {"server": {"name": IT, "imageRef": "IMG", "flavorRef": "1"}}),
    ("/compute/v2.1/servers", {"server": {"name": "x", "imageRef": IT, "flavorRef": "1"}}),
    ("/compute/v2.1/os-keypairs", {"keypair": {"name": "x", "public_key": IT}}),
    ("/identity/v3/auth/tokens", {"auth": {"identity": {"methods": [IT]}}}),
    ("/identity/v3/auth/tokens", IT),
    ("/identity/v3/credentials", {"credential": {"type": IT, "blob": "x"}}),
    ("/placement/resource_providers", {"name": IT}),
)
RAW = {
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "no UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "NUL": b"\0",
    "number": b'{"a":' + b"9" * 10_000 + b"}",
    "empty": b"",
    "word": b'"x"',
    "null": b"null",
}
FILTERS = ["a{1,99999}", "(a+)+$", "[", "*", "(?<", "\0", "\U0001f600", "9" * 30, "a" * 300, "-1"]
LISTS = [
    *("/network/v2.0/networks", "/network/v2.0/ports", "/image/v2/images"),
    *("/compute/v2.1/servers", "/compute/v2.1/servers/detail", "/identity/v3/projects"),
    *("/identity/v3/registered_limits", "/placement/resource_providers"),
]


class User:
    """Raw calls with a tenant's token."""

    def __init__(self, cloud: TestCloud, token: str) -> None:
        self.token = token
        context = ssl.create_default_context(cafile=str(cloud.cloud.ca))
        self.connection = http.client.HTTPSConnection(
            cloud.cloud.address, context=context, timeout=60
        )

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        headers = {"Content-Type": "application/json", "OpenStack-API-Version": "placement 1.39"}
        if self.token:
            headers["X-Auth-Token"] = self.token
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            self.connection.close()  # the next request opens it anew
            raise


@pytest.fixture(scope="module")
def owner(cloud: TestCloud, tenant: Callable[[str], Tenant]) -> Tenant:
    return tenant("bodies" + secrets.token_hex(2))


@pytest.fixture(scope="module")
def user(cloud: TestCloud, owner: Tenant) -> Iterator[User]:
    yield User(cloud, owner.sdk.auth_token)
    images = [image.id for image in owner.sdk.image.images(owner=owner.project)]
    for image in images:
        owner.sdk.image.delete_image(image)
    for server in owner.sdk.compute.servers():
        owner.sdk.compute.delete_server(server)


def filled(template: Any, value: Any) -> Any:
    if template == IT:
        return value
    if isinstance(template, dict):
        return {name: filled(inner, value) for name, inner in template.items()}
    if isinstance(template, list):
        return [filled(inner, value) for inner in template]
    return template


def fell(status: int, text: str) -> bool:
    """A service met what it did not expect, or told too much."""
    return status >= 500 or any(word in text for word in ("Traceback", "site-packages", "/lib/"))


@pytest.mark.parametrize("path", sorted({path for path, _ in BODIES}))
def test_odd_values_are_refused(user: User, owner: Tenant, path: str) -> None:
    network = owner.sdk.network
    found = next(network.networks(name="odd"), None) or network.create_network(name="odd")
    image = owner.sdk.image.find_image("tiny-arm64").id
    wrong = []
    for at, template in BODIES:
        if at != path:
            continue
        text = json.dumps(template).replace("NET", found.id).replace("IMG", image)
        for name, value in BAD.items():
            body = json.dumps(filled(json.loads(text), value)).encode()
            status, answer = user.call("POST", path, body)
            if fell(status, answer):
                wrong.append((name, text, status, answer[:200]))
    assert wrong == []


@pytest.mark.parametrize("token", [True, False], ids=["tenant", "anybody"])
def test_odd_bodies_are_refused(cloud: TestCloud, user: User, token: bool) -> None:
    caller = user if token else User(cloud, "")
    wrong = [
        (path, name, *answer)
        for path in sorted({path for path, _ in BODIES})
        for name, body in RAW.items()
        if fell(*(answer := caller.call("POST", path, body)))
    ]
    assert wrong == []


@pytest.mark.parametrize("path", LISTS)
def test_odd_filters_are_refused(user: User, path: str) -> None:
    wrong = [
        (name, value, *answer)
        for name in ("name", "limit", "marker", "sort_key", "changes-since", "ip", "id")
        for value in FILTERS
        if fell(*(answer := user.call("GET", f"{path}?{name}={quote(value)}")))
    ]
    assert wrong == []


def test_ordinary_filters_are_not_refused(user: User) -> None:
    for value in ("web", "^web.*", "web-[0-9]{1,3}", "M\u00fcnchen"):
        status, answer = user.call("GET", f"/compute/v2.1/servers?name={quote(value)}")
        assert status == 200, answer


def test_the_refusal_says_what_to_do(user: User) -> None:
    status, answer = user.call("POST", "/network/v2.0/networks", b'{"network":{"name":"\\ud800"}}')
    assert status == 400
    assert "remove it" in json.loads(answer)["error"]["message"]


def test_no_half_character_stops_a_service(cloud: TestCloud, user: User) -> None:
    """Each used to end one thread of Neutron; soon nobody was left to answer."""
    body = b'{"network": {"name": "\\ud800"}}'
    for _ in range(2 * cloud.cloud.settings.services.threads):
        try:
            user.call("POST", "/network/v2.0/networks", body)
        except (OSError, http.client.HTTPException):
            continue
    assert user.call("GET", "/network/v2.0/networks")[0] == 200
