"""What somebody must not see, reach or become."""

from __future__ import annotations

import http.client
import json
import pwd
import socket
import ssl
import stat
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcloud import Guest, Tenant, TestCloud, pings

from dozencloud.host import processes
from dozencloud.host.users import NOLOGIN

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOTS = {
    *("gateway", "libvirtd", "virtlogd", "nova-compute", "ovn-agent", "privsep"),
    *("ovn-controller", "ovs-switch", "ovs-db", "nodes", "port-guard"),
}
"""Services that run as root, because they make devices, namespaces, processes of other users, or
(nodes) certificates and accounts."""


@pytest.fixture(scope="module")
def secrets(cloud: TestCloud) -> dict[str, bytes]:
    """Every password of the cloud by its name."""
    values = json.loads((cloud.cloud.etc / "secrets.json").read_text())
    assert len(values) > 8
    assert all(len(value) >= 32 for value in values.values())
    return {name: value.encode() for name, value in values.items()}


def files(*folders: Path, largest: int = 8 << 20) -> Iterator[Path]:
    """All plain files below the folders, except images and databases."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= largest:
                yield path


# ---- files and processes ------------------------------------------------------------------


def test_a_file_with_a_secret_is_for_its_owner_only(
    cloud: TestCloud, secrets: dict[str, bytes]
) -> None:
    here = cloud.cloud
    keys = (b"PRIVATE KEY-----",)
    holders = [
        path
        for path in files(here.etc, here.lib, here.run)
        if any(word in path.read_bytes() for word in (*secrets.values(), *keys))
    ]
    assert {"secrets.json", "clouds.yaml", "keystone.conf", "nova.conf", "ca.key"} <= {
        path.name for path in holders
    }
    open_to_others = {str(p): oct(p.stat().st_mode) for p in holders if p.stat().st_mode & 0o077}
    assert open_to_others == {}
    fernet = list(files(here.etc / "keystone" / "fernet-keys"))
    assert [stat.S_IMODE(path.stat().st_mode) for path in fernet] == [0o600] * 2


def test_each_service_reads_its_own_passwords_only(cloud: TestCloud) -> None:
    """A file of a service belongs to the user that the service runs as."""
    for service in cloud.services().values():
        for file in service.files:
            if stat.S_IMODE(file.path.stat().st_mode) & 0o004:
                continue  # holds no secret, as the test above shows
            assert file.path.owner() in ("root", service.user), file.path


def test_no_secret_on_a_command_line_or_in_a_log(
    cloud: TestCloud, secrets: dict[str, bytes]
) -> None:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        told = [name for name, value in secrets.items() if value in command]
        assert told == [], command
    told_in = {
        str(path): name
        for path in files(cloud.cloud.log, largest=64 << 20)
        for name, value in secrets.items()
        if value in path.read_bytes()
    }
    assert told_in == {}


def test_services_run_as_users_who_cannot_log_in(cloud: TestCloud) -> None:
    services, pids = cloud.services(), cloud.pids()
    users = {name: pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid) for name, pid in pids.items()}
    assert {name: user.pw_name for name, user in users.items()} == {
        name: service.user for name, service in services.items()
    }
    assert {name for name, user in users.items() if user.pw_uid == 0} <= ROOTS
    own = {user.pw_name: user for user in users.values() if user.pw_uid}
    own |= {
        user.pw_name: user
        for pid in processes.find(cloud.cloud, servers=True)
        for user in [pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid)]
    }
    assert "dozen-qemu" in own
    assert {user.pw_shell for user in own.values()} == {NOLOGIN}
    shadow = dict(
        line.split(":")[:2] for line in Path("/etc/shadow").read_text().splitlines() if line
    )
    assert all(shadow[name][0] in "!*" for name in own)


# ---- the network --------------------------------------------------------------------------


def test_only_the_gateway_listens_beyond_loopback(cloud: TestCloud) -> None:
    listening = [line.split()[3] for line in cloud.inside("ss", "-Hltn").splitlines()]
    public = {each for each in listening if not each.startswith(("127.", "[::1]"))}
    assert public == {"0.0.0.0:443"}
    datagrams = [line.split()[3] for line in cloud.inside("ss", "-Hlun").splitlines()]
    assert {each for each in datagrams if not each.startswith(("127.", "[::1]"))} == set()


def _listening_addresses(pid: int) -> set[str]:
    """In the network of that process, by proc(5): hexadecimal address:port, in state 0A."""
    return {
        words[1]
        for kind in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]
        if (words := line.split())[3] == "0A"
    }


def test_nothing_else_listens_while_the_broker_starts(cloud: TestCloud) -> None:
    """RabbitMQ starts a second Erlang, which lives for less than a second."""
    within = cloud.pids()["nova-api"]
    before = _listening_addresses(within)
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            seen.update(_listening_addresses(within))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        cloud.dozen("restart", "rabbitmq")
    finally:
        ended.set()
        watcher.join()
    appeared = {address for address in seen - before if not address.startswith("0100007F:")}
    assert appeared == set()


def test_internal_ports_are_out_of_reach_from_the_machine_and_from_servers(
    cloud: TestCloud, first: Guest
) -> None:
    internal = cloud.cloud.settings.internal
    for port in (internal.api, internal.broker, internal.broker_cluster, internal.broker_names):
        with socket.socket() as client:
            client.settimeout(3)
            assert client.connect_ex((cloud.cloud.link[1], port)) != 0
        for address in (cloud.cloud.provider_gateway, cloud.cloud.link[1]):
            assert first.ask(f"nc -w 2 {address} {port} </dev/null").returncode == 1
    assert first.ask(f"nc -w 5 {cloud.cloud.address} 443 </dev/null").returncode == 0


def _https(cloud: TestCloud, context: ssl.SSLContext) -> int:
    request = f"{cloud.cloud.public_url}/identity/v3"
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:  # noqa: S310
        return int(answer.status)


def test_tls_is_verified_by_the_clouds_own_authority(cloud: TestCloud) -> None:
    assert _https(cloud, ssl.create_default_context(cafile=str(cloud.cloud.ca))) == 200
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        _https(cloud, ssl.create_default_context())


def test_old_tls_is_refused(cloud: TestCloud) -> None:
    context = ssl.create_default_context(cafile=str(cloud.cloud.ca))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # so that it is not our side that refuses
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)alert.protocol.version"):
        _https(cloud, context)


def test_plain_http_is_told_what_to_do(cloud: TestCloud) -> None:
    connection = http.client.HTTPConnection(cloud.cloud.address, 443, timeout=10)
    connection.request("GET", "/identity/v3")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (400, b"This port speaks HTTPS only.\n")


@pytest.mark.parametrize(
    "path", ["/compute/v2.1/servers", "/network/v2.0/ports", "/image/v2/images"]
)
def test_without_a_token_there_is_nothing(cloud: TestCloud, path: str) -> None:
    for token in (
        {},
        {"X-Auth-Token": "x"},
        {"X-Identity-Status": "Confirmed", "X-Roles": "admin"},
    ):
        connection = http.client.HTTPSConnection(
            cloud.cloud.address,
            context=ssl.create_default_context(cafile=str(cloud.cloud.ca)),
            timeout=20,
        )
        connection.request("GET", path, headers=token)
        assert connection.getresponse().status == 401


# ---- servers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def victim(cloud: TestCloud, admin: Tenant) -> Guest:
    """A neighbour of `first`, in the project's `default` security group."""
    network = cloud.sdk.network.find_network("private")
    return admin.guest(admin.create("victim", network))


def test_a_server_cannot_have_the_metadata_of_another(first: Guest, victim: Guest) -> None:
    """Not by any header that the proxies on the way use among themselves."""
    url = "http://169.254.169.254/openstack/latest/meta_data.json"
    assert first.id in first.run(f"curl -sf -m 10 {url}")
    for forged in (
        {"X-Instance-ID": victim.id},
        {"X-Forwarded-For": victim.fixed},
        {"X-Forwarded-For": f"{victim.fixed}, {victim.fixed}"},
        {"X-Instance-ID": victim.id, "X-Instance-ID-Signature": "0" * 64, "X-Tenant-ID": "x"},
        {"X-Instance-ID": victim.id, "X-Forwarded-For": victim.fixed, "X-OVN-Network-ID": "x"},
    ):
        headers = " ".join(f"-H '{name}: {value}'" for name, value in forged.items())
        answer = first.run(f"curl -s -m 10 {headers} {url}")
        assert victim.id not in answer, forged
        assert "victim" not in answer, forged


def test_the_default_security_group_lets_in_ping_and_ssh_alone(victim: Guest) -> None:
    """Whoever knocks at another port hears silence, not a refusal."""
    victim.wait()
    assert pings(victim.floating)
    with pytest.raises(TimeoutError):
        socket.create_connection((victim.floating, 8080), timeout=3)
