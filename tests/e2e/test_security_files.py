"""What another user of the machine reaches of a cloud; what a service that was taken over may do.

Then what goes the other way: words that tenants choose, on their way to an administrator's
terminal and logs.
"""

from __future__ import annotations

import errno
import json
import os
import pty
import secrets
import select
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from openstack.exceptions import HttpException
from stranger import NOBODY, as_stranger, everything, reached, status_of, unlisted
from testcloud import BOOT_SECONDS, IMAGE, Tenant, TestCloud, eventually
from tinyimages import Made
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from dozencloud.cloud import folders
from dozencloud.host.confinement import CAPABILITIES, Unconfined
from dozencloud.host.processes import children
from dozencloud.supervision.client import Supervisor

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ORDERS = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\r\n2026-01-01 FORGED"
"""What a terminal would obey (a title, an erased screen, red), a turned name, and a forged line."""
MARKS = ("\x1b]0;", "\x1b[2J", "\x9b31m", "\u202e", "\x07")


# ---- a stranger ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uefi(cloud: TestCloud, tenant: Callable[[str], Tenant], made: Made) -> Any:
    """A server with firmware and a screen."""
    owner, name = tenant("watcher"), f"kept-uefi-{secrets.token_hex(3)}"
    cloud.dozen("image", "import", "--name", name, "--public", str(made.uefi))
    image = cloud.sdk.image.find_image(name)
    owner.later(lambda: cloud.sdk.image.delete_image(image))
    options = {"image_id": image.id, "flavor": "m1.micro", "config_drive": True}
    server = owner.create("uefi", None, networks="none", **options)
    return owner.sdk.compute.wait_for_server(server, interval=0.5, wait=BOOT_SECONDS)


@pytest.fixture(scope="module")
def kinds(cloud: TestCloud, tenant: Callable[[str], Tenant], uefi: Any) -> Iterator[dict[str, Any]]:
    """A server of every kind and state, and a network that has metadata."""
    owner = tenant("keeper")
    compute = owner.sdk.compute
    network = owner.network("kept", "10.77.0.0/24")
    # Nothing waits for the login prompt: rights do not depend on it.
    common: dict[str, Any] = {"config_drive": True, "admin_password": secrets.token_hex(8)}
    servers = {
        "paused": owner.create("paused", network, **common),
        "rescued": owner.create("rescued", network, **common),
        "suspended": owner.create("suspended", network, **common),
        "resized": owner.create("resized", network, **common),
        "shelved": owner.create("shelved", network, **common),
    }

    def until(state: str, *good: str) -> None:
        def there() -> bool:
            now = compute.get_server(servers[state].id)
            assert now.status != "ERROR", (now.fault or {}).get("message")
            return now.status in good and now.task_state is None

        eventually(there, seconds=BOOT_SECONDS, what=f"{state} {good}", every=0.5)

    def bring(state: str) -> None:
        until(state, "ACTIVE")
        server = servers[state]
        match state:
            case "paused":
                compute.pause_server(server)
                until(state, "PAUSED")
            case "rescued":
                compute.rescue_server(server)
                until(state, "RESCUE")
            case "suspended":
                compute.suspend_server(server)
                until(state, "SUSPENDED")
            case "resized":
                larger = compute.find_flavor("m1.micro").id
                compute.resize_server(server, larger)
                until(state, "VERIFY_RESIZE")
            case "shelved":
                compute.shelve_server(server)
                until(state, "SHELVED", "SHELVED_OFFLOADED")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(bring, servers))
    yield servers
    for image in owner.sdk.image.images(name="shelved-shelved"):
        owner.sdk.image.delete_image(image)


def test_a_stranger_reaches_only_what_the_list_says(
    cloud: TestCloud, kinds: dict[str, Any]
) -> None:
    """Opened, listed, connected to: each path that root sees, by a user who is nobody."""
    here = cloud.cloud
    paths = [*everything(*here.folders)]
    names = {path.name for path in paths}
    assert {"disk", "disk.config", "disk.rescue", "console.log", "_base", "kernel"} <= names
    assert any(path.name.endswith("_VARS.fd") or path.parent.name == "nvram" for path in paths)
    assert any(path.name.endswith("_resize") for path in paths)
    assert any(path.suffix == ".sock" for path in paths)
    assert unlisted(here) == {}


def test_what_he_may_pass_through_he_cannot_list(cloud: TestCloud) -> None:
    """Nor may he pass where the list does not say so; what is below may be as upstream makes it."""
    here = cloud.cloud
    found = [str(path) for path in everything(*here.folders) if path.is_dir()]

    def passed() -> list[str]:
        return [path for path in found if os.access(path, os.X_OK)]

    assert set(as_stranger(passed)) == {str(path) for path in folders.passed(here)}


def test_a_disk_is_tight_without_its_folder_too(cloud: TestCloud, kinds: dict[str, Any]) -> None:
    """Should a folder ever be opened: what Nova makes below it is for QEMU's group only."""
    instances = cloud.cloud.lib / "compute" / "instances"
    loose = {
        str(path): oct(path.lstat().st_mode)
        for path in everything(instances)
        if path.lstat().st_mode & 0o007 and not path.is_symlink() and path.name != "snapshots"
    }
    assert loose == {}


def test_what_clients_of_every_user_need_is_there(cloud: TestCloud) -> None:
    said = cloud.dozen("env").stdout
    assert str(cloud.cloud.ca) in said or str(cloud.cloud.etc) in said
    text: str = as_stranger(cloud.cloud.ca.read_text)
    assert text.startswith("-----BEGIN CERTIFICATE-----")


def test_no_lock_of_ours_can_be_held_by_a_stranger(cloud: TestCloud) -> None:
    """He opens what root locks, wherever he may; then `dozen` still works."""
    base = Path(sys.prefix).parent
    locks = [cloud.cloud.lib / "lock", base / "lock", *base.glob("*/.lock")]
    locks += [*(base / "cache").rglob("*.lock"), cloud.cloud.cache / ".lock"]
    assert locks[0].exists()
    assert reached(locks) == {}
    assert reached([base / "cache"]) == {}


# ---- confined services --------------------------------------------------------------------


def test_each_service_is_as_confined_as_its_description_says(cloud: TestCloud) -> None:
    pids = cloud.pids()
    found, wished = {}, {}
    ours = int(status_of(os.getpid())["CapBnd"], 16)  # a container's root may have less
    for name, service in cloud.services().items():
        if isinstance(service.confinement, Unconfined):
            assert service.user == "root"
            assert service.confinement.why
            continue
        kept = service.confinement.capabilities if service.user == "root" else ()
        bounds = sum(1 << CAPABILITIES[each] for each in kept) & ours
        for pid in [pids[name], *children(pids[name])]:
            now = status_of(pid)
            found[name, pid] = (now["NoNewPrivs"], now["Seccomp"], int(now["CapBnd"], 16))
            wished[name, pid] = ("1", "2", bounds)
            assert "DOZEN_CONFINED" not in Path(f"/proc/{pid}/environ").read_text()
    assert {name for name, _ in found} >= {"gateway", "mariadb", "memcached", "rabbitmq", "ovn-nb"}
    assert found == wished


def test_the_gateways_workers_go_on_after_a_reload(cloud: TestCloud) -> None:
    """A confined master still makes workers of another user, and ends those of before."""
    service, pid = cloud.services()["gateway"], cloud.pids()["gateway"]
    before = set(children(pid))
    assert service.reload is not None
    assert service.reload(pid)
    eventually(lambda: not before & set(children(pid)), seconds=20, what="old workers to end")
    (worker,) = children(pid)
    now = status_of(worker)
    assert (now["NoNewPrivs"], now["Seccomp"], int(now["CapEff"], 16)) == ("1", "2", 0)
    url = f"{cloud.cloud.public_url}/identity/v3"
    assert requests.get(url, verify=str(cloud.cloud.ca), timeout=30).ok


# ---- words on their way to a terminal and to a log ----------------------------------------


def logs(cloud: TestCloud) -> Iterator[tuple[Path, bytes]]:
    for path in cloud.cloud.log.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def on_a_terminal(words: list[str], seconds: float = 60) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment
    ):
        os.close(theirs)
        said, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                piece = os.read(ours, 1 << 16)
            except OSError as error:
                assert error.errno == errno.EIO  # it has ended
                break
            said += piece
        os.close(ours)
    return said.decode()


def test_names_give_no_orders_to_an_administrators_terminal(
    cloud: TestCloud, tenant: Callable[[str], Tenant]
) -> None:
    mallory = tenant("mallory")
    image = mallory.sdk.image
    bad = image.create_image(
        name=f"bad{ORDERS}", container_format="bare", disk_format="raw", allow_duplicates=True
    )
    mallory.later(lambda: image.delete_image(bad))
    known = next(cloud.sdk.image.images(name=IMAGE))
    copied = {"kernel_id": known.kernel_id, "ramdisk_id": known.ramdisk_id}
    copied |= {key: str(value) for key, value in known.properties.items() if value}
    mine = image.create_image(
        name=f"mine{ORDERS}",
        container_format="bare",
        disk_format="qcow2",
        allow_duplicates=True,
        data=cloud.sdk.image.download_image(known).content,
        **{k: v for k, v in copied.items() if k.startswith(("hw_", "os_", "kernel", "ramdisk"))},
    )
    mallory.later(lambda: image.delete_image(mine))
    server = mallory.create("mallory", None, networks="none", image_id=mine.id)
    # Others refuse such names; Glance takes them all.
    tries: tuple[Callable[[], object], ...] = (
        lambda: mallory.sdk.compute.update_server(server, name=f"bad{ORDERS}"),
        lambda: mallory.sdk.compute.create_keypair(name=f"bad{ORDERS}"),
        lambda: mallory.sdk.network.create_network(name=f"bad{ORDERS}"),
    )
    for refused in tries:
        with pytest.raises(HttpException):
            refused()
    mallory.sdk.compute.wait_for_server(server, interval=0.5, wait=BOOT_SECONDS)

    shown = {
        words: on_a_terminal(cloud.words(*words))
        for words in (
            ("image", "list"),
            ("server", "explain", server.id),
            ("openstack", "image", "list"),
        )
    }
    for words, said in shown.items():
        assert "\\x1b]0;owned\\x07" in said or "\\x1b]0;" in said, (words, said)
        assert [mark for mark in MARKS if mark in said] == [], (words, said)
    for words in (("image", "list"), ("server", "explain", server.id)):
        assert not [line for line in shown[words].splitlines() if line.startswith("2026-01-01")]
        assert "\\r\\n2026-01-01 FORGED" in shown[words]
    # Programs get them as they are.
    rows = json.loads(cloud.dozen("image", "list", "--json").stdout)
    assert f"bad{ORDERS}" in {row["name"] for row in rows}


def test_words_forge_no_line_in_a_log(cloud: TestCloud, tenant: Callable[[str], Tenant]) -> None:
    """Each API says in its log what it did not find."""
    forger = tenant("forger")
    token = forger.sdk.session.get_token()
    before = {path: len(text) for path, text in logs(cloud)}
    for below in (
        "compute/v2.1/servers/",
        "compute/v2.1/flavors/",
        "compute/v2.1/os-keypairs/",
        "image/v2/images/",
        "network/v2.0/networks/",
        "identity/v3/users/",
        "placement/resource_providers/",
    ):
        url = f"{cloud.cloud.public_url}/{below}{quote('x' + ORDERS, safe='')}"
        for headers in ({"X-Auth-Token": token}, {"X-Auth-Token": f"no{quote(ORDERS)}"}):
            requests.get(url, headers=headers, verify=str(cloud.cloud.ca), timeout=30)
    time.sleep(1)
    ours = {p: t[before.get(p, 0) :] for p, t in logs(cloud) if p.parent == cloud.cloud.log}
    assert any(b"2026-01-01 FORGED" in text for text in ours.values()), "it was heard of"
    for path, text in ours.items():
        assert b"\x1b" not in text, path
        assert b"\xc2\x9b" not in text, path
        assert b"\xe2\x80\xae" not in text, path
        assert not [line for line in text.splitlines() if line.startswith(b"2026-01-01 FORGED")]
    for name in ("nova-api", "gateway"):
        on = on_a_terminal(cloud.words("logs", name, "-n", "400"))
        assert "\x1b" not in on


# ---- console tokens -----------------------------------------------------------------------


def opened(cloud: TestCloud, url: str) -> str:
    """Open the WebSocket as a browser does; what came of it."""
    context = ssl.create_default_context(cafile=str(cloud.cloud.ca))
    try:
        with connect(url, ssl=context, subprotocols=[Subprotocol("binary")]) as socket:
            socket.recv(timeout=2)
    except TimeoutError:
        return "silent"
    except (ConnectionClosed, WebSocketException, OSError) as error:
        return type(error).__name__
    return "open"


def test_no_log_holds_a_token_of_a_console_or_of_keystone(
    cloud: TestCloud, uefi: Any, tenant: Callable[[str], Tenant]
) -> None:
    """Consoles of each kind, opened well and badly, while the proxy runs and while it does not."""
    compute = cloud.sdk.compute
    first = cloud.first()
    cloud.dozen("debug", "first")
    records = (cloud.cloud.lib / "compute" / "debug").glob(f"{first.id}.json")
    told = [record.read_text() for record in records]
    urls = [
        compute.create_server_remote_console(first.id, protocol="serial", type="serial").url,
        compute.create_server_remote_console(uefi.id, protocol="vnc", type="novnc").url,
        compute.create_server_remote_console(first.id, protocol="mks", type="webmks").url,
    ]
    socket_of = cloud.cloud.public_url.replace("https://", "wss://")
    tokens = [url[-36:] for url in urls]
    assert all(token.count("-") == 4 for token in tokens), urls
    wrong = secrets.token_hex(16)
    try:
        for token in (*tokens, wrong):
            for kind in ("serial", "vnc"):
                opened(cloud, f"{socket_of}/console/{kind}/socket?token={token}")
                # As noVNC asks, and a page with more in its address.
                opened(cloud, f"{socket_of}/console/{kind}/socket?path=%3Ftoken%3D{token}")
        cloud.dozen("debug", "--pipe", "first", code=None)
        Supervisor(cloud.cloud).stop("nova-consoles")
        for token in (*tokens, wrong):  # nginx: no proxy there
            opened(cloud, f"{socket_of}/console/serial/socket?token={token}")
    finally:
        cloud.dozen("restart", "nova-consoles")
        cloud.dozen("debug", "first", "--close", code=None)
    time.sleep(1)
    keystone = tenant("loggedin").sdk.session.get_token()
    secret = [word for text in told for word in json.loads(text).values() if len(str(word)) >= 32]
    hidden = [*tokens, wrong, keystone, *(str(word) for word in secret if str(word) != first.id)]
    found = {
        (str(path), word[:6])
        for path, text in logs(cloud)
        for word in hidden
        if word.encode() in text
    }
    assert found == set()
    said = (cloud.cloud.log / "gateway.log").read_text()
    assert "/console/serial/socket?token=***" in said, "the log tells what failed, without tokens"
    assert not [path for path, text in logs(cloud) if b"gAAAA" in text]


def test_nobody_is_the_user_that_these_tests_mean() -> None:
    """A check of the tests themselves: the stranger is in no group of ours."""
    assert as_stranger(lambda: [os.getuid(), os.getgid(), os.getgroups()]) == [NOBODY, NOBODY, []]
