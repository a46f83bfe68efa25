"""The real OpenStack client, as `dozen openstack`, as `dozen env` sets it up, and big images."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcloud import BOOT_SECONDS, Guest, Tenant, TestCloud, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

MIB = 1 << 20


def test_dozen_openstack_lists_the_first_server(cloud: TestCloud, first: Guest) -> None:
    listing = cloud.dozen("openstack", "server", "list", "--name", "^first$", "-f", "json")
    (server,) = json.loads(listing.stdout)
    assert (server["ID"], server["Status"]) == (first.id, "ACTIVE")
    assert set(server["Networks"]["private"]) == {first.fixed, first.floating}


def test_dozen_openstack_fails_as_the_client_does(cloud: TestCloud) -> None:
    missing = cloud.dozen("openstack", "server", "show", "no-such-server", code=1)
    assert "No Server found for no-such-server" in missing.stderr


def test_dozen_ssh_runs_a_command_in_the_first_server(cloud: TestCloud) -> None:
    assert cloud.dozen("ssh", "first", "uname", "-m").stdout.strip() == "aarch64"


@pytest.mark.parametrize("how", ["openstack", "openstack --os-cloud dozen"])
def test_the_plain_client_works_in_a_shell_after_env(cloud: TestCloud, how: str) -> None:
    script = f'eval "$(cat)"; {how} token issue -f value -c project_id'
    settings = cloud.dozen("env").stdout
    shell = subprocess.run(
        ["sh", "-euc", script], check=True, capture_output=True, text=True, input=settings
    )
    assert shell.stdout.strip() == cloud.sdk.current_project_id


def test_an_image_comes_back_as_it_was_sent(
    cloud: TestCloud, admin: Tenant, tmp_path: Path
) -> None:
    """By the client, which streams; 20 MiB pass the gateway and Glance in both directions."""
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(20 * MIB))
    create = ["image", "create", "big", "--disk-format", "raw", "--container-format", "bare"]
    cloud.dozen("openstack", *create, "--file", str(sent))
    image = cloud.sdk.image.find_image("big")
    admin.later(lambda: cloud.sdk.image.delete_image(image))
    assert (image.status, image.size) == ("active", 20 * MIB)
    cloud.dozen("openstack", "image", "save", "big", "--file", str(back))
    assert back.read_bytes() == sent.read_bytes()


def test_an_image_may_be_sent_in_chunks_of_any_size(cloud: TestCloud, admin: Tenant) -> None:
    """Transfer-Encoding: chunked, as glanceclient and Nova send snapshots."""
    glance = cloud.sdk.image
    image = glance.create_image(
        name="chunked", disk_format="raw", container_format="bare", allow_duplicates=True
    )
    admin.later(lambda: glance.delete_image(image))
    parts = [os.urandom(size) for size in (1, 64 << 10, MIB, 5 * MIB, 3)]

    def chunks() -> Iterator[bytes]:
        yield from parts

    headers = {"Content-Type": "application/octet-stream"}
    answer = glance.put(f"/images/{image.id}/file", headers=headers, data=chunks())
    assert answer.status_code == 204, answer.text
    stored = glance.get_image(image.id)
    wanted = hashlib.sha512(b"".join(parts)).hexdigest()
    assert (stored.status, stored.hash_value) == ("active", wanted)


def test_a_snapshot_boots_with_what_was_in_the_server(
    cloud: TestCloud, admin: Tenant, first: Guest
) -> None:
    first.run("echo from the snapshot > /home/dozen/note && sync")
    compute, glance = cloud.sdk.compute, cloud.sdk.image
    image = compute.create_server_image(first.id, name="snapshot", wait=True, timeout=BOOT_SECONDS)
    admin.later(lambda: glance.delete_image(image.id))
    eventually(
        lambda: glance.get_image(image.id).status == "active", seconds=60, what="it is active"
    )
    network = cloud.sdk.network.find_network("private")
    (group,) = cloud.sdk.network.security_groups(name="ssh", project_id=admin.project)
    copy = admin.guest(admin.create("copy", network, group, image_id=image.id)).wait()

    def settled() -> bool:
        """The snapshot lets the key in at once; with its own name SSH starts anew."""
        done = copy.ask("hostname; cat /home/dozen/note")
        return done.stdout == "copy\nfrom the snapshot\n"

    eventually(settled, seconds=60, what="the copy has a name of its own")
    assert first.answers()
