"""A server's metadata is its own; the way to it leads nowhere else, and is nobody's to block."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import pwd
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from testcloud import OPEN, Guest, Tenant, TestCloud

from dozencloud.supervision.service import api_socket

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

META_DATA = "/openstack/latest/meta_data.json"
URL = f"http://169.254.169.254{META_DATA}"
BLOB = b"\x1f\x8b\x08" + b"".join(hashlib.sha256(bytes([n])).digest() * 8 for n in range(120))
"""Looks as if it were compressed, and is no text in any encoding."""


@pytest.fixture(scope="module")
def project(tenant: Callable[[str], Tenant]) -> Tenant:
    return tenant("attacker")


@pytest.fixture(scope="module")
def attacker(project: Tenant) -> Guest:
    """A server of another project than `first`, in a network of its own."""
    network, group = project.network("attacker", "10.51.0.0/24"), project.group("in", *OPEN)
    server = project.create("attacker", network, group, user_data=BLOB, config_drive=True)
    return project.guest(server).wait()


def printed(request: str) -> str:
    """Words of a shell that print these bytes."""
    return f"echo {base64.b64encode(request.encode()).decode()} | base64 -d"


def padding(size: int) -> str:
    """The same for a line of a head with that many bytes."""
    return f"printf 'Padding: '; head -c {size} pad; printf '\\r\\n'"


def raws(guest: Guest, requests: dict[str, str]) -> dict[str, str]:
    """What comes back for what these words print; all are sent at once."""
    answers: dict[str, str] = {}
    names = list(requests)
    while names:
        some = [names.pop(0)]
        # An SSH server of the small image takes 9000 bytes of a command.
        while names and sum(len(requests[n]) + 80 for n in [*some, names[0]]) < 8500:
            some.append(names.pop(0))
        sent = "".join(
            f"({{ {requests[name]}; }} | timeout 25 nc 169.254.169.254 80 > {n}) & "
            for n, name in enumerate(some)
        )
        read = f"for n in $(seq 0 {len(some) - 1}); do base64 $n | tr -d '\\n'; echo; done"
        pad = "head -c 20000 /dev/zero | tr '\\0' p > pad"
        lines = guest.run(f"cd $(mktemp -d); {pad}; {sent}wait; {read}", "root").split("\n")
        lines += [""] * (len(some) - len(lines))
        for name, line in zip(some, lines, strict=True):
            answers[name] = base64.b64decode(line).decode(errors="replace")
    return answers


def raw(guest: Guest, request: str) -> str:
    return raws(guest, {"": printed(request)})[""]


def forged(victim: Guest, network: str) -> list[str]:
    return [
        f"X-OVN-Network-ID: {network}",
        f"X-Forwarded-For: {victim.fixed}",
        f"X-Instance-ID: {victim.id}",
        f"X-Metadata-Provider: {network}",
    ]


def test_padding_does_not_make_a_servers_own_words_count(
    cloud: TestCloud, attacker: Guest, first: Guest
) -> None:
    """Whatever is cut off where: the answer is about who asks, or there is none."""
    network = cloud.sdk.network.find_network("private").id
    start = "\r\n".join([f"GET {META_DATA} HTTP/1.0", "Host: x", *forged(first, network), ""])
    sizes = (0, 2000, 3700, 3900, 4096, 8000, 12_000, 14_000, 20_000)
    answers = raws(
        attacker,
        {str(size): f"{printed(start)}; {padding(size)}; printf '\\r\\n'" for size in sizes},
    )
    for size, answer in answers.items():
        assert first.id not in answer, size
        assert '"name": "first"' not in answer, size
    # Heads that fit are answered, with what is the asking server's own; others are refused.
    assert [attacker.id in answer for answer in answers.values()] == [True] * 8 + [False]


def test_no_other_shape_of_a_request_does_either(
    cloud: TestCloud, attacker: Guest, first: Guest
) -> None:
    network = cloud.sdk.network.find_network("private").id
    id_line, from_line, *_ = forged(first, network)
    get = f"GET {META_DATA} HTTP/1.1\r\nHost: x\r\n"
    inner = f"{get}{id_line}\r\n{from_line}\r\n\r\n"
    folded = from_line.replace(": ", ":\r\n ")
    proxied = f"PROXY TCP4 {first.fixed} 169.254.169.254 1 80\r\n"
    shapes = {
        "twice": f"{get}{id_line}\r\n{id_line}\r\n{from_line}\r\n{from_line}\r\n\r\n",
        "case": f"{get}{id_line.upper()}\r\n{from_line.lower()}\r\n\r\n",
        "underscore": f"{get}{id_line.replace('-', '_', 3)}\r\n{from_line}\r\n\r\n",
        "folded": f"{get}{id_line}\r\n{folded}\r\n\r\n",
        "space": f"{get}{id_line.replace(':', ' :')}\r\n{from_line}\r\n\r\n",
        "absolute": f"{get.replace('GET /', 'GET http://169.254.169.254/')}{id_line}\r\n\r\n",
        "hidden": f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(inner)}\r\n\r\n{inner}",
        "chunked": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n",
        "both": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        "pipelined": f"{get}\r\n{inner}{inner}",
        "proxied": f"{proxied}{get}\r\n",
        "connect": f"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n{inner}",
        "http2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "bare": f"{get.replace(chr(13), '')}{id_line}\n{from_line}\n\n",
    }
    answers = raws(attacker, {name: printed(request) for name, request in shapes.items()})
    for name, answer in answers.items():
        assert first.id not in answer, name
        assert '"name": "first"' not in answer, name
    # The way is open: what is a request is answered.
    assert attacker.id in raw(attacker, f"{get}Connection: close\r\n\r\n")


def test_what_is_too_much_is_refused_with_a_sentence(attacker: Guest) -> None:
    post = "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n"
    chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    answers = raws(
        attacker,
        {
            "long": f"{printed(post)}; head -c 9000 pad",
            "chunked": printed(chunked),
            "unfinished": printed(post.replace("9000", "90")),
        },
    )
    assert "The body is longer than 8192 bytes." in answers["long"]
    assert "A body comes with its length." in answers["chunked"]
    assert attacker.run("curl -s http://169.254.169.254/openstack/latest/password") == ""


def test_user_data_comes_as_it_is(attacker: Guest) -> None:
    """Byte by byte: from the service by both of its ways, and on the config drive."""
    url = "http://169.254.169.254/openstack/latest/user_data"
    ec2 = "http://169.254.169.254/latest/user-data"
    fetch = f"curl -sf -m 20 {url} | sha256sum; curl -sf -m 20 {ec2} | sha256sum"
    mount = "mkdir -p /mnt/drive && mount -o ro $(findfs LABEL=config-2) /mnt/drive"
    drive = f"{mount} && sha256sum </mnt/drive/openstack/latest/user_data; umount /mnt/drive"
    found = [line.split()[0] for line in attacker.run(f"{fetch}; {drive}", "root").splitlines()]
    assert found == [hashlib.sha256(BLOB).hexdigest()] * 3
    assert attacker.run(f"curl -s -m 20 -o /dev/null -w '%{{http_code}}' -I {url}") == "200"


def test_a_password_can_be_written(project: Tenant, attacker: Guest) -> None:
    """The one thing that a server writes: a body, with its length."""
    url = "http://169.254.169.254/openstack/latest/password"
    attacker.run(f"curl -sf -m 20 --data-binary secret {url}")
    answer = project.sdk.compute.get(f"/servers/{attacker.id}/os-server-password")
    assert answer.json() == {"password": "secret"}


def test_the_address_leads_to_metadata_only(attacker: Guest) -> None:
    paths = ("identity/v3", "compute/", "image/", "network/", "placement/", "nodes/", "ca.crt")
    codes = attacker.run(
        f"for path in {' '.join(paths)}; do curl -s -m 20 -o /dev/null -w '%{{http_code}}\\n' "
        "http://169.254.169.254/$path; done"
    )
    assert codes.split() == ["404"] * len(paths)


def test_the_inner_gateway_does_not_lead_to_metadata(cloud: TestCloud) -> None:
    url = f"http://127.0.0.1:{cloud.cloud.settings.internal.api}"
    words = ("curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}")
    assert cloud.inside(*words, f"{url}/identity/v3") == "200"
    assert cloud.inside(*words, f"{url}/") == "404"
    assert cloud.inside(*words, f"{url}{META_DATA}") == "404"


def proxies(cloud: TestCloud) -> list[Path]:
    """Processes of haproxy that this cloud has."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"haproxy" and str(cloud.cloud.lib).encode() in words[2]:
            found.append(folder)
    return found


def test_haproxy_has_no_rights(cloud: TestCloud, attacker: Guest) -> None:
    found = proxies(cloud)
    assert len(found) >= 2  # of `first`, and of the attacker
    user = pwd.getpwnam("dozen-metadata")
    for folder in found:
        lines = (folder / "status").read_text().splitlines()
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        assert status["Uid"] == [str(user.pw_uid)] * 4
        assert status["Gid"] == [str(user.pw_gid)] * 4
        assert status["Groups"] == []
        assert status["CapEff"] == status["CapPrm"] == status["CapInh"] == ["0" * 16]
        assert status["NoNewPrivs"] == ["1"]
        # All that it sees, and which it cannot change.
        place = folder / "root"
        assert [path.name for path in place.iterdir()] == ["metadata"]
        assert place.stat().st_uid == 0
        assert place.stat().st_mode & 0o022 == 0
    assert os.getgrouplist("dozen-metadata", user.pw_gid) == [user.pw_gid]


@pytest.mark.parametrize("user", ["nobody", "dozen-metadata", "dozen-qemu", "dozen-gateway"])
def test_no_other_user_speaks_to_the_agent_or_to_nova(cloud: TestCloud, user: str) -> None:
    """haproxy's user neither: it is let in to one folder by who started it (chroot)."""
    run = cloud.cloud.run
    doors = [*(run / "ovn-agent" / "networks").glob("*/metadata")]
    assert doors
    sockets = [*doors]
    if user != "dozen-gateway":
        sockets.append(api_socket(cloud.cloud, "nova-metadata"))
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    for path in sockets:
        done = subprocess.run(
            [
                *("setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}"),
                *("--init-groups", "/usr/bin/python3", "-c", code, str(path)),
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        assert "PermissionError" in done.stderr, path


def test_nova_believes_nobody_without_the_signature(cloud: TestCloud, first: Guest) -> None:
    """Root asks here; a service's user gets no further."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(api_socket(cloud.cloud, "nova-metadata")))
        project = cloud.sdk.current_project_id
        client.sendall(
            f"GET {META_DATA} HTTP/1.0\r\nX-Instance-ID: {first.id}\r\nX-Tenant-ID: {project}\r\n"
            f"X-Instance-ID-Signature: {'0' * 64}\r\n\r\n".encode()
        )
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 403


def test_silent_servers_keep_nobody_waiting(attacker: Guest, first: Guest) -> None:
    """Ten connections of each kind from one server; the metadata of another come as ever."""
    before = time.monotonic()
    first.run(f"curl -sf -m 20 {URL} >/dev/null")
    usual = time.monotonic() - before
    post = "POST / HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 999\\r\\n\\r\\nx"
    get = "GET /openstack/latest/user_data HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
    for said in ("", "GET /", post, get):
        # It reads nothing, either: the answer stays in its socket.
        hold = f"(printf '{said}'; sleep 15) | nc 169.254.169.254 80 | sleep 15"
        attacker.run(
            f"for n in $(seq 10); do ({hold}) >/dev/null 2>&1 </dev/null & done; sleep 1", "root"
        )
    times = []
    for _ in range(3):
        start = time.monotonic()
        first.run(f"curl -sf -m 20 {URL} >/dev/null")
        times.append(time.monotonic() - start)
    assert min(times) < 2 * usual + 1, (usual, times)
