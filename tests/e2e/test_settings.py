"""Settings: a change applies just that; a mistake is said before anything is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from testcloud import TestCloud, eventually

from dozencloud.errors import Exit

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def edit(cloud: TestCloud) -> Iterator[Callable[[str, str], None]]:
    """Replaces text in cloud.toml; afterwards the file and the cloud are as they were."""
    path = cloud.cloud.file
    before = path.read_text()

    def replace(old: str, new: str) -> None:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    yield replace
    path.write_text(before)
    cloud.dozen("up")


def test_a_changed_setting_restarts_only_what_holds_it(
    cloud: TestCloud, edit: Callable[[str, str], None]
) -> None:
    before = cloud.pids()
    edit("# reserved_memory = 512", "reserved_memory = 640")
    applied = cloud.dozen("up")
    assert "Nothing to change" not in applied.stdout
    after = cloud.pids()
    assert {name for name in before if before[name] != after[name]} == {"nova-compute"}
    (provider,) = cloud.sdk.placement.resource_providers()

    def reserved() -> int:
        inventory = cloud.sdk.placement.get_resource_provider_inventory("MEMORY_MB", provider)
        return int(inventory.reserved)

    # The service is ready before its first report to Placement.
    eventually(lambda: reserved() == 640, seconds=60, what="Placement knows of it")
    again = cloud.dozen("up").stdout
    assert "Nothing to change" in again, again


def test_another_public_port_moves_every_endpoint(
    cloud: TestCloud, edit: Callable[[str, str], None]
) -> None:
    # nova-compute is not among them: the addresses of consoles have the port in them.
    foundation = ("mariadb", "rabbitmq", "libvirtd", "ovn-nb", "ovs-switch")
    before = cloud.pids()
    edit("# port = 443", "port = 8443")
    cloud.dozen("up")
    after = cloud.pids()
    assert {n: before[n] for n in foundation} == {n: after[n] for n in foundation}
    catalogue = cloud.dozen("openstack", "endpoint", "list", "--interface", "public", "-f", "value")
    assert catalogue.stdout.count(":8443/") == len(catalogue.stdout.splitlines()) == 5
    names = cloud.dozen("openstack", "server", "list", "-f", "value", "-c", "Name").stdout
    assert "first" in names.splitlines()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# threads = 8", "thread = 4", "there is no setting in [services] called thread"),
        ("# threads = 8", 'threads = "many"', "services.threads must be a whole number"),
        ("[compute]", "[compute", "is not valid TOML"),
    ],
)
def test_a_mistake_is_said_in_one_sentence(
    cloud: TestCloud, edit: Callable[[str, str], None], old: str, new: str, said: str
) -> None:
    before = cloud.pids()
    edit(old, new)
    refused = cloud.dozen("up", code=Exit.USAGE)
    assert refused.stdout == ""
    problem, mend = refused.stderr.splitlines()
    assert problem.startswith(f"Error: {cloud.root}/etc/cloud.toml")
    assert said in problem
    assert mend
    edit(new, old)
    assert cloud.pids() == before
