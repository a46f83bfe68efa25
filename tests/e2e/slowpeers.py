"""Clients that are slow on purpose, in a process of their own, and ordinary calls beside them.

Whoever attacks comes back: a connection that the gateway closes is opened again.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import socket
import ssl
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from testcloud import Tenant, TestCloud

ADDRESSES = tuple(f"198.51.100.{number}" for number in range(1, 51))
"""Senders, on this machine's end of the link to the cloud; for documentation only (RFC 5737), so
nobody else has them."""
PATIENCE = 60
"""s that an ordinary call may take."""
AGAIN = 2.0
"""s until a connection that was closed is opened again. Sooner, the handshakes of this machine with
itself would be what is measured."""


@contextmanager
def addresses(cloud: TestCloud) -> Iterator[Sequence[str]]:
    """The machine has these addresses on its link to the cloud, which answers to them."""
    device = cloud.cloud.link_devices[0]
    for address in ADDRESSES:
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", device], check=True)
    try:
        yield ADDRESSES
    finally:
        for address in ADDRESSES:
            subprocess.run(["ip", "address", "del", f"{address}/32", "dev", device], check=True)


@dataclass(frozen=True)
class Attack:
    """Slow connections of one kind.

    requests: what is sent, in turn. pause: s between bytes that follow. reads: whether answers are
    read, one byte each `pause`. tls: the handshake is made.
    """

    kind: str
    requests: tuple[bytes, ...]
    pause: float = 2.0
    reads: bool = False
    tls: bool = True


def head(method: str, path: str, **headers: object) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: cloud"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


BODIES = (
    "/identity/v3/auth/tokens",
    "/compute/v2.1/servers",
    "/network/v2.0/networks",
    "/image/v2/images",
    "/placement/resource_providers",
)
ANSWERS = ("/compute/v2.1/extensions", "/network/v2.0/extensions")
ANYBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANYBODY.check_hostname, ANYBODY.verify_mode = False, ssl.CERT_NONE
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00"
"""The begin of one, of 512 bytes."""


def heads() -> Attack:
    return Attack("slow heads", tuple(head("POST", path)[:-2] + b"X-More: " for path in BODIES))


def bodies() -> Attack:
    more = {"Content_Type": "application/json", "Content_Length": 60000}
    return Attack("slow bodies", tuple(head("POST", path, **more) + b"{" for path in BODIES), 5)


def answers(token: str) -> Attack:
    wanted = tuple(head("GET", path, X_Auth_Token=token) for path in ANSWERS)
    return Attack("slow readers of answers", wanted, reads=True)


def downloads(owned: Sequence[tuple[str, str]]) -> Attack:
    """owned: an image, and a token of its owner."""
    wanted = tuple(
        head("GET", f"/image/v2/images/{image}/file", X_Auth_Token=token) for image, token in owned
    )
    return Attack("slow readers of images", wanted, reads=True)


def uploads(owned: Sequence[tuple[str, str]]) -> Attack:
    """owned: an image that waits for its data, and a token of its owner."""
    more = {"Content_Type": "application/octet-stream", "Content_Length": 10 << 20}
    wanted = tuple(
        head("PUT", f"/image/v2/images/{image}/file", X_Auth_Token=token, **more) + b"x" * 1000
        for image, token in owned
    )
    return Attack("slow uploads", wanted)


def idle() -> Attack:
    return Attack("idle connections", (head("GET", "/ca.crt"),), pause=600)


def handshakes() -> Attack:
    return Attack("half TLS handshakes", (CLIENT_HELLO,), pause=600, tls=False)


async def _connect(host: str, port: int, source: str | None, attack: Attack) -> Any:
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    if source:
        client.bind((source, 0))
    try:
        await asyncio.get_running_loop().sock_connect(client, (host, port))
        more: dict[str, Any] = {"ssl": ANYBODY, "server_hostname": host} if attack.tls else {}
        return await asyncio.open_connection(sock=client, limit=256, **more)
    except BaseException:
        client.close()
        raise


async def _hold(
    host: str,
    port: int,
    source: str | None,
    attack: Attack,
    request: bytes,
    there: Callable[[], None],
) -> None:
    """One slow connection, made again whenever it ends. there: called each time it is."""
    while True:
        writer = None
        with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            reader, writer = await _connect(host, port, source, attack)
            writer.write(request)
            there()
            while True:
                if attack.reads:
                    if not await reader.read(1):
                        break
                elif attack.pause < 60:
                    writer.write(b"x")
                if attack.reads:
                    await asyncio.sleep(attack.pause)
                elif await _ended(reader, attack.pause):
                    break
        if writer:
            writer.transport.abort()
        await asyncio.sleep(AGAIN)


async def _ended(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Whether the other side closes within that time; what it says is read."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            if not await asyncio.wait_for(reader.read(4096), left):
                return True
        except TimeoutError:
            return False
    return False


def _attack(
    host: str, port: int, sources: Sequence[str], attack: Attack, count: int, all_there: Any
) -> None:
    made = 0

    def there() -> None:
        nonlocal made
        made += 1
        if made == count:
            all_there.set()

    async def all_of_them() -> None:
        holds: list[Awaitable[None]] = [
            _hold(
                host,
                port,
                sources[number % len(sources)] if sources else None,
                attack,
                attack.requests[number % len(attack.requests)],
                there,
            )
            for number in range(count)
        ]
        await asyncio.gather(*holds)

    asyncio.run(all_of_them())


@contextmanager
def attacking(
    cloud: TestCloud, attack: Attack, count: int, sources: Sequence[str] = ()
) -> Iterator[None]:
    """So many slow connections, in turn from these addresses, while the block runs."""
    where = (cloud.cloud.address, cloud.cloud.settings.gateway.port)
    processes = multiprocessing.get_context("spawn")
    all_there = processes.Event()
    process = processes.Process(
        target=_attack, args=(*where, tuple(sources), attack, count, all_there), daemon=True
    )
    process.start()
    try:
        assert all_there.wait(60), "the slow connections could not be made"
        time.sleep(1)
        yield
        assert process.is_alive()
    finally:
        process.kill()
        process.join()


# ---- ordinary calls -----------------------------------------------------------------------


@dataclass
class Caller:
    """Somebody who uses the cloud: a new connection for each call, as the client makes."""

    cloud: TestCloud
    token: str
    login: Mapping[str, Any]
    calls: Mapping[str, tuple[str, str]]
    source: str | None = None
    patience: float = PATIENCE
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def call(
        self, method: str, path: str, body: object = None, token: str | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        here = self.cloud.cloud
        client = http.client.HTTPSConnection(
            here.address,
            here.settings.gateway.port,
            timeout=self.patience,
            context=ssl.create_default_context(cafile=str(here.ca)),
            source_address=(self.source, 0) if self.source else None,
        )
        try:
            client.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {
                    **({"X-Auth-Token": token or self.token} if token != "" else {}),
                    **({"Content-Type": "application/json"} if body is not None else {}),
                },
            )
            answer = client.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            client.close()

    def log_in(self) -> tuple[int, Mapping[str, str], bytes]:
        return self.call("POST", "/identity/v3/auth/tokens", self.login, token="")

    def once(self, name: str) -> float:
        """Seconds of this call, which must succeed; PATIENCE if it did not."""
        begun = time.monotonic()
        try:
            method, path = self.calls[name]
            status = (self.log_in() if name == "token" else self.call(method, path))[0]
            failed = status >= 300
        except (OSError, http.client.HTTPException):
            failed = True
        taken = PATIENCE if failed else time.monotonic() - begun
        self.seconds.setdefault(name, []).append(taken)
        return taken

    def rounds(self, seconds: float) -> dict[str, list[float]]:
        """All calls in turn, for that long; at least three times each."""
        self.seconds = {}
        end = time.monotonic() + seconds
        count = 0
        while time.monotonic() < end or count < 3:
            for name in self.calls:
                self.once(name)
                if time.monotonic() > end + PATIENCE:
                    return self.seconds
            count += 1
        return self.seconds


def ordinary(cloud: TestCloud, tenant: Tenant, image: str | None = None) -> Caller:
    """The calls of a user of that project; of the image, if there is one, its data, too."""
    auth = tenant.sdk.config.get_auth_args()
    login = login_of(auth["username"], auth["password"], auth["project_name"])
    calls = {
        "token": ("POST", "/identity/v3/auth/tokens"),
        "servers": ("GET", "/compute/v2.1/servers"),
        "images": ("GET", "/image/v2/images"),
        "networks": ("GET", "/network/v2.0/networks"),
        "placement": ("GET", "/placement/"),
    }
    if image:
        calls["image data"] = ("GET", f"/image/v2/images/{image}/file")
    return Caller(cloud, tenant.sdk.auth_token, login, calls)


def login_of(user: str, password: str, project: str | None = None) -> dict[str, Any]:
    """The body of a request for a token."""
    domain = {"id": "default"}
    given = {"user": {"name": user, "password": password, "domain": domain}}
    identity: dict[str, Any] = {"methods": ["password"], "password": given}
    if project is None:
        return {"auth": {"identity": identity}}
    return {
        "auth": {"identity": identity, "scope": {"project": {"name": project, "domain": domain}}}
    }


def p95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}
