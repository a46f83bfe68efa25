"""Images from an address that is in no catalogue, and the checksum beside them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dozencloud.errors import Problem
from dozencloud.images.catalogue import fetch_url

pytestmark = pytest.mark.functional

CONTENT = bytes(range(256)) * 4096


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "disk.img").write_bytes(CONTENT)
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/disk.img", folder
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SHA256SUMS", "{sha256}  disk.img\n"),
        ("disk.img.sha256", "{sha256}\n"),
        ("CHECKSUM", "SHA256 (disk.img) = {sha256}\n"),
        ("SHA512SUMS", "{sha512} *disk.img\n"),
    ],
)
def test_a_checksum_beside_it_is_checked(
    name: str, text: str, site: tuple[str, Path], tmp_path: Path
) -> None:
    url, folder = site
    sums = {kind: hashlib.new(kind, CONTENT).hexdigest() for kind in ("sha256", "sha512")}
    (folder / name).write_text(text.format(**sums))
    fetched = fetch_url(url, tmp_path / "got", lambda done, size: None)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.verified_by.endswith(f" sum in {name}")

    wrong = {kind: digest[::-1] for kind, digest in sums.items()}
    (folder / name).write_text(text.format(**wrong))
    with pytest.raises(Problem, match="is not what was published"):
        fetch_url(url, tmp_path / "wrong", lambda done, size: None)
    assert list((tmp_path / "wrong").iterdir()) == []


def test_without_a_checksum_it_says_so(site: tuple[str, Path], tmp_path: Path) -> None:
    fetched = fetch_url(site[0], tmp_path / "got", lambda done, size: None)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.verified_by == "nothing: no checksum stands beside"


def test_what_is_not_there_is_said_with_the_server(site: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"127\.0\.0\.1"):
        fetch_url(site[0].replace("disk", "other"), tmp_path / "got", lambda done, size: None)
    assert [path for path in (tmp_path / "got").iterdir() if path.suffix != ".part"] == []
