"""What images may cost the cloud, and where it may fetch them from: tried by a tenant.

Only the real Glance and nova-compute show what is on the disk afterwards.
"""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from testcloud import IMAGE, Tenant, TestCloud, eventually, settle

from dozencloud.hooks import imagelimits

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MIB = 1 << 20
PORT, OTHER_PORT = 8099, 8098
"""On this machine's end of the link to the cloud; the setting allows the first one."""


class User:
    """A tenant, and calls with its token as an attacker makes them."""

    def __init__(self, cloud: TestCloud, tenant: Tenant) -> None:
        self.cloud, self.tenant = cloud, tenant
        self.token = tenant.sdk.auth_token

    def call(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> tuple[int, Any]:
        """Status and answer. body: an iterator is sent in pieces, without a length."""
        connection = http.client.HTTPSConnection(
            self.cloud.cloud.address,
            context=ssl.create_default_context(cafile=str(self.cloud.cloud.ca)),
            timeout=120,
        )
        headers = {"X-Auth-Token": self.token, "Content-Type": kind}
        if (body is not None and kind.endswith("json")) or kind.endswith("patch"):
            body = json.dumps(body)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except BrokenPipeError:  # it was refused before all of it was sent
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def image(self, disk_format: str = "raw", container: str = "bare", **more: Any) -> str:
        body = {"name": "bad", "disk_format": disk_format, "container_format": container, **more}
        status, image = self.call("POST", "/image/v2/images", body)
        assert status == 201, image
        self.tenant.later(lambda: self.call("DELETE", f"/image/v2/images/{image['id']}"))
        return str(image["id"])

    def put(self, image: str, data: Any, where: str = "file") -> tuple[int, Any]:
        path = f"/image/v2/images/{image}/{where}"
        return self.call("PUT", path, data, "application/octet-stream")

    def show(self, image: str) -> Any:
        return self.call("GET", f"/image/v2/images/{image}")[1]

    def set(self, image: str, name: str, value: Any) -> None:
        change = [{"op": "replace", "path": f"/{name}", "value": value}]
        kind = "application/openstack-images-v2.1-json-patch"
        status, said = self.call("PATCH", f"/image/v2/images/{image}", change, kind)
        assert status == 200, said

    def fetch(self, image: str, url: Any) -> tuple[int, Any]:
        method = {"name": "web-download", "uri": url}
        return self.call("POST", f"/image/v2/images/{image}/import", {"method": method})

    def outcome(self, image: str) -> tuple[str, str]:
        """Status and message of the import, when it has ended."""

        def ended() -> Any:
            tasks = self.call("GET", f"/image/v2/images/{image}/tasks")[1]["tasks"]
            return next((t for t in tasks if t["status"] in ("success", "failure")), None)

        task = eventually(ended, seconds=60, what=f"the import of {image}")
        return task["status"], task["message"]


@pytest.fixture(scope="module")
def user(cloud: TestCloud, tenant: Callable[[str], Tenant]) -> User:
    return User(cloud, tenant(f"images-{os.urandom(3).hex()}"))


def limit(cloud: TestCloud, user: User, **limits: int) -> None:
    """The user's project has these limits instead of the cloud's own."""
    identity = cloud.sdk.identity
    service = next(iter(identity.services(type="image")))
    for name, most in limits.items():
        made = identity.create_limit(
            service_id=service.id,
            region_id="RegionOne",
            resource_name=name,
            resource_limit=most,
            project_id=user.tenant.project,
        )
        user.tenant.later(lambda made=made: identity.delete_limit(made))  # type: ignore[misc]


@pytest.fixture
def limited(cloud: TestCloud, tenant: Callable[[str], Tenant]) -> Callable[..., User]:
    """Makes users, each of a project with such limits, of which Glance remembers nothing yet."""

    def make(**limits: int) -> User:
        user = User(cloud, tenant(f"limited-{os.urandom(3).hex()}"))
        limit(cloud, user, **limits)
        return user

    return make


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // (MIB // 4)):
        yield os.urandom(MIB // 4)


def stored(cloud: TestCloud, image: str) -> list[Path]:
    return list((cloud.cloud.lib / "glance").rglob(f"{image}*"))


def base(cloud: TestCloud) -> Path:
    return cloud.cloud.lib / "compute" / "instances" / "_base"


def base_file(cloud: TestCloud, image: str) -> Path:
    return base(cloud) / hashlib.sha1(image.encode()).hexdigest()  # noqa: S324  (Nova's name)


# ---- a server's disk ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A qcow2 of less than 1 MiB that unpacks to 96 MiB on a disk of 2 GiB."""
    folder = tmp_path_factory.mktemp("bomb")
    raw, packed = folder / "raw", folder / "qcow2"
    with raw.open("wb") as file:
        for _ in range(96):
            file.write(b"\x07" * MIB)
        file.truncate(2 << 30)
    words = ["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(raw), str(packed)]
    subprocess.run(words, check=True)
    raw.unlink()
    data = packed.read_bytes()
    assert len(data) < MIB
    return data


@pytest.fixture(scope="module")
def failing(user: User) -> tuple[str, str]:
    """Image and server: an image that comes into the cache, and is then found not to start."""
    image = user.image(hw_architecture="aarch64", hw_firmware_type="bios")
    assert user.put(image, os.urandom(8 * MIB))[0] == 204
    network = user.tenant.network("images", "10.77.0.0/24")
    server = user.tenant.create("hopeless", network, image_id=image)
    return image, server.id


def test_nova_refuses_at_once_what_unpacks_to_more_than_the_flavors_disk(
    user: User, bomb: bytes, failing: tuple[str, str]
) -> None:
    image = user.image("qcow2")
    assert user.put(image, bomb)[0] == 204
    assert user.show(image)["min_disk"] == 2
    body = {"name": "bomb", "imageRef": image, "flavorRef": nano(user), "networks": []}
    status, said = user.call("POST", "/compute/v2.1/servers", {"server": body})
    assert status == 400
    assert "disk is smaller than the minimum" in said["badRequest"]["message"]


def nano(user: User) -> str:
    return str(user.tenant.sdk.compute.find_flavor("m1.nano").id)


def test_a_node_unpacks_nothing_that_is_larger_than_the_flavors_disk(
    cloud: TestCloud, user: User, bomb: bytes, failing: tuple[str, str]
) -> None:
    """The owner may say that the image needs less than it does; the node looks itself."""
    image = user.image("qcow2")
    assert user.put(image, bomb)[0] == 204
    user.set(image, "min_disk", 0)
    network = user.tenant.sdk.network.find_network("images")
    before, sizes, ended = used(base(cloud)), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            sizes.append(used(base(cloud)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        server = user.tenant.create("bomb", network, image_id=image)
        fault = fault_of(user, server.id)
    finally:
        ended.set()
        watcher.join()
    assert "disk is too small" in fault
    assert "/" not in fault
    assert max(sizes) < before + 32 * MIB
    assert list(base(cloud).glob(f"{base_file(cloud, image).name}*")) == []


def used(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def fault_of(user: User, server: str) -> str:
    """What a user is told of a server that could not be made."""

    def failed() -> Any:
        found = user.call("GET", f"/compute/v2.1/servers/{server}")[1]["server"]
        return found if found["status"] == "ERROR" else None

    found = eventually(failed, seconds=90, what="the server's error")
    return str(found["fault"]["message"])


@pytest.mark.parametrize("gib", [1 << 31, 1 << 33])
def test_an_absurd_disk_is_refused(user: User, gib: int) -> None:
    """Its size fits into no column of the database, or no flavor."""
    head = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(12) + (16).to_bytes(4, "big")
    head += (min(gib << 30, (1 << 64) - 512)).to_bytes(8, "big") + bytes(4)
    head += (1).to_bytes(4, "big") + (196608).to_bytes(8, "big") + bytes(512)
    image = user.image("qcow2")
    status, _ = user.put(image, head + bytes(MIB))
    assert 400 <= status < 500
    assert stored(user.cloud, image) == []


# ---- how much of them ---------------------------------------------------------------------


def test_a_project_stores_no_more_than_its_limit(
    cloud: TestCloud, limited: Callable[..., User]
) -> None:
    user = limited()
    assert user.put(user.image(), os.urandom(MIB))[0] == 204
    limit(cloud, user, image_size_total=20)
    time.sleep(imagelimits.KEPT + 1)  # a limit that was changed counts after that
    for data in (os.urandom(20 * MIB), pieces(20 * MIB)):
        image = user.image()
        status, _ = user.put(image, data)
        assert status == 413
        assert user.show(image)["status"] == "queued"
        assert stored(cloud, image) == []
    image = user.image()
    assert user.put(image, pieces(2 * MIB))[0] == 204


def test_uploads_beside_each_other_share_the_limit(
    cloud: TestCloud, limited: Callable[..., User]
) -> None:
    user = limited(image_stage_total=4)
    images = [user.image() for _ in range(4)]
    answers: list[int] = []

    def send(image: str) -> None:
        answers.append(user.put(image, slowly(), "stage")[0])

    def slowly() -> Iterator[bytes]:
        for piece in pieces(2 * MIB):
            time.sleep(0.1)
            yield piece

    threads = [threading.Thread(target=send, args=(image,)) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {204, 413}
    assert 413 in answers
    staged = [file.stat().st_size for image in images for file in stored(cloud, image)]
    assert sum(staged) <= 4 * MIB


def test_images_and_uploads_are_counted(cloud: TestCloud, limited: Callable[..., User]) -> None:
    user = limited(image_count_total=0)
    status, said = user.call("POST", "/image/v2/images", {"name": "one more"})
    assert status == 413, said
    user = limited(image_count_uploading=0)
    image = user.image()
    assert user.put(image, b"x" * MIB)[0] == 413
    assert stored(cloud, image) == []


# ---- where they come from -----------------------------------------------------------------


class Web(http.server.BaseHTTPRequestHandler):
    """A publisher of images who sends visitors elsewhere. /to?URL, /file, /text, /endless."""

    kernel: ClassVar[bytes] = b""
    hits: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.hits.append(self.path)
        path, _, target = self.path.partition("?")
        try:
            if path == "/to":
                self.send_response(302)
                self.send_header("Location", target)
                self.end_headers()
            elif path == "/endless":
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(os.urandom(MIB))
            else:
                data = {"/file": self.kernel, "/text": b"secret of an inner service"}[path]
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
        except OSError:
            pass

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def web(cloud: TestCloud) -> Iterator[str]:
    """Two servers on this machine's end of the link, of which nothing allows the second."""
    here = cloud.cloud.link[0]
    images = cloud.sdk.image
    Web.kernel = images.download_image(images.find_image(f"{IMAGE}-kernel")).content
    servers = [http.server.ThreadingHTTPServer((here, port), Web) for port in (PORT, OTHER_PORT)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{here}:{PORT}"
    for server in servers:
        server.shutdown()
        server.server_close()


def inner(cloud: TestCloud) -> list[str]:
    """Addresses of this machine and the cloud, in all forms in which they can be written."""
    here, port = cloud.cloud, cloud.cloud.settings.internal.api
    hosts = [
        *("0.0.0.0", "0", "[::]", "[::ffff:0.0.0.0]", "[::ffff:127.0.0.1]", "127.1"),  # noqa: S104
        "127.0.0.1",
        *("2130706433", "0x7f.1", "0x7f000001", "017700000001", "[::1]", "localhost", "localhost."),
        *("[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fc00::1]"),
        *("169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "198.18.0.1"),
        *("192.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "[ff02::1]", "\uff11"),
        *(here.address, here.link[0], here.provider_gateway, str(here.provider[20])),
        str(here.tenant[5]),
    ]
    return [
        *(f"http://{host}/" for host in hosts),
        *(f"https://{host}/" for host in hosts[:3]),
        *(f"http://127.0.0.1:{each}/" for each in (port, 80, 443, 8080)),
        *(
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "gopher://127.0.0.1/",
            "data:,x",
            "//127.0.0.1",
        ),
        *(
            "http://a:b@127.0.0.1/",
            "http://example.com@127.0.0.1/",
            "http://127.0.0.1\\@example.com",
        ),
        *(
            "http://",
            "http:///x",
            "http://[",
            "http://example.com:99999/",
            "http://example.com:22/",
        ),
    ]


def test_nothing_is_fetched_from_where_nobody_else_is(cloud: TestCloud, user: User) -> None:
    image = user.image("aki", "aki")
    for url in [*inner(cloud), f"http://{cloud.cloud.link[0]}:{PORT}/file"]:
        status, said = user.fetch(image, url)
        assert status == 400, (url, said)
    # Not by the old ways either.
    for body in ({"type": "import", "input": {"import_from": "http://127.0.0.1/"}},):
        assert user.call("POST", "/image/v2/tasks", body)[0] == 403
    path = f"/image/v2/images/{image}"
    assert user.call("POST", f"{path}/locations", {"url": "http://127.0.0.1/"})[0] in (400, 403)
    add = [{"op": "add", "path": "/locations/-", "value": {"url": "http://0/", "metadata": {}}}]
    kind = "application/openstack-images-v2.1-json-patch"
    assert user.call("PATCH", path, add, kind)[0] in (400, 403)
    for method in ({"name": "copy-image"}, {"name": "glance-download", "glance_image_id": image}):
        assert 400 <= user.call("POST", f"{path}/import", {"method": method})[0] < 500
    assert user.show(image)["status"] == "queued"
    assert stored(cloud, image) == []


@pytest.fixture(scope="module")
def allowed(cloud: TestCloud, web: str) -> Iterator[str]:
    """The first of the servers, with the setting that allows it."""
    place = web.removeprefix("http://")
    settle(cloud, f'download_from = ["{place}"]')
    yield web
    settle(cloud, "download_from = []")


def test_the_setting_allows_an_address_and_nothing_that_it_leads_to(
    cloud: TestCloud, user: User, allowed: str
) -> None:
    here = cloud.cloud.link[0]
    image = user.image("aki", "aki")
    assert user.fetch(image, f"{allowed}/file")[0] == 202
    assert user.outcome(image)[0] == "success"
    assert user.show(image)["size"] == len(Web.kernel)
    targets = [
        "http://127.0.0.1/identity/v3",
        f"http://127.0.0.1:{cloud.cloud.settings.internal.api}/identity/v3",
        "http://0.0.0.0/",
        "http://[::ffff:0.0.0.0]/",
        f"http://{here}:{OTHER_PORT}/file",
        f"{allowed}/to?http://{here}:{OTHER_PORT}/file",
        f"http://{here}/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
    ]
    Web.hits.clear()
    sentences = set()
    for target in targets:
        image = user.image("aki", "aki")
        assert user.fetch(image, f"{allowed}/to?{target}")[0] == 202
        status, message = user.outcome(image)
        assert status == "failure", target
        sentences.add(message)
        assert user.show(image)["status"] == "queued"
        assert stored(cloud, image) == []
    assert "/file" not in Web.hits
    # One sentence, from which nobody learns what is where.
    (sentence,) = sentences
    assert "could not be fetched" in sentence
    for address in (f"{allowed}/to?{quote(allowed)}/to", f"{allowed}/missing"):
        image = user.image("aki", "aki")
        assert user.fetch(image, address)[0] == 202
        assert user.outcome(image) == ("failure", sentence)


def test_what_is_no_kernel_is_not_kept_as_one(cloud: TestCloud, user: User, allowed: str) -> None:
    for kind in ("aki", "ari"):
        image = user.image(kind, kind)
        assert user.fetch(image, f"{allowed}/text")[0] == 202
        status, message = user.outcome(image)
        assert status == "failure"
        assert "secret" not in message
        assert user.show(image)["status"] == "queued"
        assert stored(cloud, image) == []
        assert user.call("GET", f"/image/v2/images/{image}/file")[0] in (204, 404)


def test_a_download_without_end_ends_at_the_limit(
    cloud: TestCloud, limited: Callable[..., User], allowed: str
) -> None:
    user = limited(image_stage_total=8)
    image = user.image()
    assert user.fetch(image, f"{allowed}/endless")[0] == 202
    status, message = user.outcome(image)
    assert status == "failure"
    assert "limit" in message
    assert stored(cloud, image) == []


# ---- afterwards ---------------------------------------------------------------------------


def test_the_cache_forgets_what_failed(
    cloud: TestCloud, user: User, failing: tuple[str, str]
) -> None:
    image, server = failing
    fault = fault_of(user, server)
    assert "no BIOS" in fault
    eventually(
        lambda: not base_file(cloud, image).exists(),
        seconds=150,
        what="the cache without the image that failed",
    )
