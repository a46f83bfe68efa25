"""Nobody gets the token of a service; and who had one could do little with it."""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from openstack.connection import Connection
from openstack.exceptions import BadRequestException
from testcloud import IMAGE, Tenant, TestCloud

from dozencloud.cloud.plan import Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.services import accounts, keystone_users, mariadb
from dozencloud.supervision.service import Account

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LINKS = ("kernel_id", "ramdisk_id")
JSON_PATCH = "application/openstack-images-v2.1-json-patch"


class Listener(ThreadingHTTPServer):
    """What an attacker has where the cloud reaches it; says of any image that it is active."""

    def __init__(self, address: str) -> None:
        super().__init__((address, 0), Handler)
        self.heard: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.server.heard.append(dict(self.headers))
        name = self.path.rpartition("/")[2]
        body = json.dumps({"id": name, "status": "active", "visibility": "public"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def listener(cloud: TestCloud) -> Iterator[Listener]:
    server = Listener(cloud.cloud.link[0])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def mallory(tenant: Callable[[str], Tenant]) -> Tenant:
    return tenant("mallory")


def device(image: str) -> str:
    """A block_device_mapping whose volume is made from that image."""
    return json.dumps(
        [
            {
                **{"boot_index": 0, "source_type": "image", "destination_type": "local"},
                **{"image_id": image, "device_name": "/dev/vda", "delete_on_termination": True},
            }
        ]
    )


def upload(tenant: Tenant, image: str, content: bytes) -> None:
    kind = {"Content-Type": "application/octet-stream"}
    answer = tenant.sdk.image.put(f"/images/{image}/file", data=content, headers=kind)
    assert answer.status_code == 204, answer.text


@pytest.fixture(scope="module")
def image(mallory: Tenant) -> Any:
    """An active image of the tenant's own."""
    images = mallory.sdk.image
    made = images.create_image(
        name="bait", disk_format="raw", container_format="bare", allow_duplicates=True
    )
    mallory.later(lambda: images.delete_image(made))
    upload(mallory, made.id, bytes(1 << 20))
    return made


def forms(listener: Listener) -> list[str]:
    """Ways to write an address where an ID belongs."""
    name = str(uuid.uuid4())
    return [
        f"{listener.url}/v2/images/{name}",
        f"{listener.url}/{name}",
        f"//{listener.url.partition('//')[2]}/v2/images/{name}",
        f"../../v2/images/{name}",
        f"{name}/../..",
        f"{name}?x=/v2/images/{name}",
    ]


def patch(tenant: Tenant, image: str, *changes: dict[str, str]) -> Any:
    return tenant.sdk.image.patch(
        f"/images/{image}", json=list(changes), headers={"Content-Type": JSON_PATCH}
    )


# ---- no address in an image ---------------------------------------------------------------


@pytest.mark.parametrize("link", [*LINKS, "block_device_mapping"])
def test_glance_takes_no_address_for_an_image(
    mallory: Tenant, image: Any, listener: Listener, link: str
) -> None:
    """Neither when an image is made nor later."""
    images = mallory.sdk.image
    for form in forms(listener):
        value = device(form) if link == "block_device_mapping" else form
        with pytest.raises(BadRequestException, match=link):
            images.create_image(
                name="never",
                disk_format="raw",
                container_format="bare",
                allow_duplicates=True,
                **{link: value},
            )
        answer = patch(mallory, image.id, {"op": "add", "path": f"/{link}", "value": value})
        assert answer.status_code == 400, form
        assert link in answer.text


def test_what_nova_writes_into_images_is_taken(mallory: Tenant, image: Any) -> None:
    name = str(uuid.uuid4())
    wanted = {"kernel_id": name, "ramdisk_id": name, "block_device_mapping": device(name)}
    changes = ({"op": "add", "path": f"/{key}", "value": value} for key, value in wanted.items())
    answer = patch(mallory, image.id, *changes)
    assert answer.status_code == 200, answer.text
    found = mallory.sdk.image.get_image(image.id)
    assert (found.kernel_id, found.ramdisk_id) == (name, name)
    answer = patch(mallory, image.id, *({"op": "remove", "path": f"/{key}"} for key in wanted))
    assert answer.status_code == 200, answer.text


# ---- and none that Nova follows -----------------------------------------------------------


class Database:
    """Glance's tables, where an image may have had an address since before it was refused."""

    def __init__(self, cloud: TestCloud) -> None:
        self.command = [*mariadb.client(Plan.kept(cloud.cloud)), "glance"]

    def write(self, image: str, properties: dict[str, str]) -> None:
        self.clear(image)
        for name, value in properties.items():
            # Glance's own way would ask its schema.
            self._run(
                "INSERT INTO image_properties (image_id, name, value, created_at, deleted)"  # noqa: S608
                f" VALUES ('{image}', '{name}', '{value}', NOW(), 0);"
            )

    def clear(self, image: str) -> None:
        self._run(f"DELETE FROM image_properties WHERE image_id = '{image}';")  # noqa: S608

    def _run(self, sql: str) -> None:
        subprocess.run(self.command, input=sql, text=True, check=True, capture_output=True)


def refused(answer: Any) -> None:
    assert answer.status_code == 400, answer.text
    assert any(
        word in answer.text for word in ("images are named by their UUID", "failed to get image")
    )


@pytest.fixture(scope="module")
def bait(mallory: Tenant) -> str:
    """ID of an image that servers start from, but for what its properties say."""
    images = mallory.sdk.image
    made = images.create_image(
        name="bait", disk_format="qcow2", container_format="bare", allow_duplicates=True
    )
    mallory.later(lambda: images.delete_image(made))
    tiny = images.find_image(IMAGE)
    upload(mallory, made.id, images.download_image(tiny, stream=False).content)
    return str(made.id)


@pytest.fixture(scope="module")
def network(mallory: Tenant) -> Any:
    net = mallory.sdk.network
    made = net.create_network(name="bait")
    mallory.later(lambda: net.delete_network(made))
    net.create_subnet(network_id=made.id, ip_version=4, cidr="10.77.0.0/24")
    return made


@pytest.mark.parametrize("link", [*LINKS, "block_device_mapping"])
def test_nova_follows_no_address_when_a_server_is_made(
    cloud: TestCloud, mallory: Tenant, bait: str, network: Any, listener: Listener, link: str
) -> None:
    compute, database = mallory.sdk.compute, Database(cloud)
    flavor = compute.find_flavor("m1.nano").id
    asked = {"name": "never", "imageRef": bait, "flavorRef": flavor}
    body = {"server": {**asked, "networks": [{"uuid": network.id}]}}
    try:
        for form in forms(listener):
            if link == "block_device_mapping":
                database.write(bait, {link: device(form), "bdm_v2": "True"})
            else:
                database.write(bait, {link: form})
            refused(compute.post("/servers", json=body))
    finally:
        database.clear(bait)
    assert listener.heard == []


def test_nova_follows_no_address_when_a_server_is_rebuilt(
    cloud: TestCloud, mallory: Tenant, bait: str, network: Any, listener: Listener
) -> None:
    compute, database = mallory.sdk.compute, Database(cloud)
    server = mallory.create("rebuilt", network)
    compute.wait_for_server(server, interval=0.3, wait=150)
    try:
        for link in LINKS:
            database.write(bait, {link: forms(listener)[0]})
            refused(
                compute.post(f"/servers/{server.id}/action", json={"rebuild": {"imageRef": bait}})
            )
    finally:
        database.clear(bait)
    assert listener.heard == []


# ---- what the accounts may do -------------------------------------------------------------

Call = tuple[str, str, str]
"""API, method, path."""
NONE = str(uuid.UUID(int=1))
CALLS: dict[Call, tuple[object, set[str]]] = {
    # What tells an administrator from others; for nobody.
    ("identity", "GET", "/users"): (None, set()),
    ("identity", "GET", "/projects"): (None, set()),
    ("identity", "POST", "/users"): ({"user": {"name": "never"}}, set()),
    ("identity", "POST", "/ec2tokens"): ({"credentials": {}}, set()),
    ("identity", "POST", "/s3tokens"): ({"credentials": {}}, set()),
    ("compute", "GET", "/servers/detail?all_tenants=1"): (None, set()),
    ("compute", "GET", "/os-services"): (None, set()),
    ("compute", "GET", "/os-hypervisors"): (None, set()),
    ("compute", "POST", "/servers/VICTIM/remote-consoles"): (
        {"remote_console": {"protocol": "serial", "type": "serial"}},
        set(),
    ),
    ("compute", "POST", "/servers/VICTIM/action"): ({"os-getConsoleOutput": {}}, set()),
    ("compute", "DELETE", "/servers/VICTIM"): (None, set()),
    ("network", "GET", "/v2.0/agents"): (None, set()),
    ("network", "DELETE", "/v2.0/networks/NETWORK"): (None, set()),
    ("network", "PUT", "/v2.0/security-groups/GROUP"): (
        {"security_group": {"name": "never"}},
        set(),
    ),
    ("network", "PUT", "/v2.0/floatingips/FLOATING"): ({"floatingip": {"port_id": None}}, set()),
    ("image", "DELETE", "/v2/images/IMAGE"): (None, set()),
    ("image", "PATCH", "/v2/images/IMAGE"): (
        [{"op": "replace", "path": "/name", "value": "never"}],
        set(),
    ),
    ("image", "GET", "/v2/images/IMAGE/locations"): (None, set()),
    ("image", "GET", "/v2/info/stores/detail"): (None, set()),
    # What some are for.
    ("identity", "GET", "/auth/tokens"): (
        None,
        {"glance", "placement", "neutron", "nova", "nova-sends"},
    ),
    ("compute", "POST", "/os-server-external-events"): (
        {"events": [{"name": "network-changed", "server_uuid": NONE}]},
        {"neutron", "nova", "nova-sends"},
    ),
    ("network", "PUT", f"/v2.0/ports/{NONE}"): (
        {"port": {"binding:host_id": "never"}},
        {"nova", "nova-sends"},
    ),
    ("placement", "GET", "/resource_providers"): (None, {"nova", "nova-sends"}),
}


def as_account(cloud: TestCloud, name: str) -> Connection:
    """The connection of a service, by the password in the cloud's secrets."""
    secrets = Secrets(cloud.cloud.etc / "secrets.json")
    return Connection(
        auth={
            **{"username": name, "password": secrets[f"keystone.{name}"]},
            **{"project_name": accounts.PROJECT, "user_domain_id": "default"},
            **{"project_domain_id": "default", "auth_url": f"{cloud.cloud.public_url}/identity/v3"},
        },
        region_name="RegionOne",
        interface="public",
        identity_api_version=3,
        cacert=str(cloud.cloud.ca),
    )


@pytest.mark.parametrize("account", keystone_users(), ids=lambda account: account.name)
def test_each_account_may_do_its_work_and_nothing_else(cloud: TestCloud, account: Account) -> None:
    """With the account's own token, against what the administrator's project has."""
    admin = cloud.sdk
    first = admin.compute.find_server("first").id
    named = {
        "VICTIM": first,
        "NETWORK": admin.network.find_network("private").id,
        "GROUP": next(iter(admin.network.security_groups(name="ssh"))).id,
        "FLOATING": next(iter(admin.network.ips())).id,
        "IMAGE": admin.image.find_image(IMAGE).id,
    }
    sdk = as_account(cloud, account.name)
    subject = admin.auth_token
    for (api, method, path), (body, may) in CALLS.items():
        for word, value in named.items():
            path = path.replace(word, value)
        headers = {"X-Subject-Token": subject} if path == "/auth/tokens" else {}
        if method == "PATCH":
            headers["Content-Type"] = JSON_PATCH
        if api == "compute":
            headers["OpenStack-API-Version"] = "compute 2.90"
        base = f"{cloud.cloud.public_url}/{BASES[api]}"
        answer = sdk.session.request(
            f"{base}{path}", method, json=body, headers=headers, raise_exc=False
        )
        told = f"{account.name}: {method} {path}: {answer.status_code} {answer.text[:300]}"
        if account.name in may:
            # 404: of something that is not there; the right was looked at before.
            assert answer.status_code in (200, 207, 404), told
            assert "disallowed by policy" not in answer.text, told
        elif answer.status_code == 200 and method == "GET":
            assert not any(answer.json().values()), told
        else:
            # Neutron says 404 of what somebody may not even see.
            assert answer.status_code in (403, 404), told
    assert admin.compute.get_server(first).status == "ACTIVE"


BASES = {
    "identity": "identity/v3",
    "compute": "compute/v2.1",
    "network": "network",
    "image": "image",
    "placement": "placement",
}


def test_the_accounts_have_these_roles_and_no_others(cloud: TestCloud) -> None:
    identity = cloud.sdk.identity
    roles = {role.id: role.name for role in identity.roles()}
    for account in keystone_users():
        user = identity.find_user(account.name)
        held = [
            (roles[each.role["id"]], each.scope.get("project", {}).get("id"))
            for each in identity.role_assignments(user_id=user.id)
        ]
        project = identity.find_project(accounts.PROJECT).id
        wanted = [(role, project) for role in account.roles]
        wanted += [(role, None) for role in account.system]
        assert sorted(held, key=str) == sorted(wanted, key=str)


def test_nova_shows_the_floating_ip_of_a_server(cloud: TestCloud) -> None:
    """It looks that up with its own account."""
    first = cloud.first()
    shown = cloud.sdk.compute.get_server(first.id).addresses["private"]
    assert {each["addr"] for each in shown} == {first.fixed, first.floating}
