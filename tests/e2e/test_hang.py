"""A server that hangs says so to its owner; `dozen server explain` says it in a sentence.

Only here what the watch finds becomes an action of Nova that the owner sees.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from testcloud import IMAGE, Tenant, TestCloud, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WAITING = "console=ttyAMA0 root=/dev/vdz rootwait"
CAUSE = "The kernel waits for its root device /dev/vdz, which does not come."


@pytest.fixture(scope="module")
def owner(tenant: Callable[[str], Tenant]) -> Tenant:
    return tenant("explains")


@pytest.fixture
def as_owner(owner: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an openrc of the owner sets."""
    options = owner.sdk.config.config
    names = ("username", "password", "project_name", "user_domain_id", "project_domain_id")
    for name in names:
        monkeypatch.setenv(f"OS_{name.upper()}", options["auth"][name])
    monkeypatch.setenv("OS_AUTH_URL", options["auth"]["auth_url"])
    monkeypatch.setenv("OS_REGION_NAME", "RegionOne")
    monkeypatch.setenv("OS_IDENTITY_API_VERSION", "3")
    monkeypatch.setenv("OS_CACERT", str(options["cacert"]))


def waiting_image(owner: Tenant) -> Any:
    """The small image's kernel without its initrd, and a root device that is never there."""
    tiny = owner.sdk.image.find_image(IMAGE)
    known = tiny.to_dict(computed=False, original_names=True) | (tiny.properties or {})
    kept = {
        name: str(value)
        for name, value in known.items()
        if value and (name == "kernel_id" or name.startswith(("hw_", "img_", "trait:")))
    }
    image = owner.sdk.image.create_image(
        name="waits",
        data=bytes(1 << 20),
        disk_format="raw",
        container_format="bare",
        os_command_line=WAITING,
        **kept,
    )
    owner.later(lambda: owner.sdk.image.delete_image(image))
    return image


def hangs(owner: Tenant, server: Any) -> list[Any]:
    return [each for each in owner.sdk.compute.server_actions(server) if each.action == "hang"]


@pytest.mark.usefixtures("as_owner")
def test_a_server_that_hangs_tells_its_owner_why(cloud: TestCloud, owner: Tenant) -> None:
    network = owner.network("hang", "10.77.0.0/24")
    server = owner.create("waits", network, image_id=waiting_image(owner).id)
    (action,) = eventually(
        lambda: hangs(owner, server), seconds=120, what="the action hang", every=1
    )
    assert action.message.startswith(CAUSE)
    assert owner.sdk.compute.get_server(server).status == "ACTIVE"

    (event,) = cloud.sdk.compute.get_server_action(action.request_id, server).events
    assert event.event == "hang_root_waiting"
    assert event.result == "Error"
    assert "Waiting for root device /dev/vdz..." in event.details

    said = cloud.dozen("server", "explain", "waits", code=1).stdout
    assert said.startswith(f"waits ({server.id}): ACTIVE\n")
    assert "starts by a kernel" in said
    assert "| [" in said, "the kernel's last lines"
    assert f"\n{CAUSE} " in said
    told = json.loads(cloud.dozen("server", "explain", server.id, "--json", code=1).stdout)
    assert told["finding"]["code"] == "root-waiting"
    assert [each["action"] for each in told["actions"]] == ["hang", "create"]

    foreign = cloud.dozen("server", "explain", "first", code=1).stderr
    assert "There is no server called first." in foreign


def test_a_server_that_no_node_can_run(cloud: TestCloud, owner: Tenant) -> None:
    giant = cloud.sdk.compute.create_flavor(name="giant", ram=128, vcpus=1, disk=1 << 20)
    owner.later(lambda: cloud.sdk.compute.delete_flavor(giant))
    server = owner.sdk.compute.create_server(
        name="giant",
        image_id=owner.sdk.image.find_image(IMAGE).id,
        flavor_id=giant.id,
        networks="none",
    )
    owner.later(lambda: owner.sdk.compute.wait_for_delete(server, interval=0.3, wait=60))
    owner.later(lambda: owner.sdk.compute.delete_server(server))
    eventually(
        lambda: owner.sdk.compute.get_server(server).status == "ERROR", seconds=30, what="ERROR"
    )
    told = json.loads(cloud.dozen("server", "explain", server.id, "--json", code=1).stdout)
    assert told["finding"]["code"] == "no-host"
    assert told["status"] == "ERROR"


def test_nothing_is_wrong_with_a_server_that_came_up(cloud: TestCloud) -> None:
    said = cloud.dozen("server", "explain", "first").stdout
    assert "first (" in said
    assert "Nothing is " in said
    assert " hang " not in said
