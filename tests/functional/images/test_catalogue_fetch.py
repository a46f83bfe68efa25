"""Fetching images from an HTTPS server that looks like the publishers' own.

The catalogue is the real one; only the servers and the signing keys are ours.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests
from publishers import (
    ALPINE,
    IMAGE,
    OTHER,
    UBUNTU,
    Proxy,
    Signer,
    Site,
    certificate,
    put_almalinux,
    put_alpine,
    put_archlinuxarm,
    put_centos,
    put_debian,
    put_fedora,
    put_freebsd,
    put_linuxcontainers,
    put_opensuse,
    put_rocky,
    put_ubuntu,
    put_ubuntu_kernel,
    sha,
)

from dozencloud.errors import Exit, Problem
from dozencloud.images import catalogue
from dozencloud.images.catalogue import Choice, Fetched, Kind, resolve, signature, web
from dozencloud.images.catalogue.fetch import _proof
from dozencloud.images.inspection.model import Arch

pytestmark = pytest.mark.functional

ENTRIES = catalogue.load()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


def serve(site: Site) -> Iterator[Site]:
    thread = threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield site
    site.shutdown()
    site.server_close()


@pytest.fixture
def site(certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    authority, server = certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    monkeypatch.setattr(web, "PAUSE_SECONDS", 0.01)
    yield from serve(Site(context))


@pytest.fixture
def plain() -> Iterator[Site]:
    yield from serve(Site(None))


@pytest.fixture(scope="session")
def signer() -> Iterator[Signer]:
    if not (shutil.which("gpg") and shutil.which("gpgv")):
        pytest.skip("gnupg and gpgv are not installed")
    # Short: the agent's socket in it has at most 108 characters.
    home = Path(tempfile.mkdtemp(prefix="dz-gpg-", dir="/tmp"))
    made = Signer(home)
    for who in ("publisher", "stranger"):
        made.run("--passphrase", "", "--quick-gen-key", who, "ed25519", "sign", "never")
    yield made
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    # The agent takes its sockets away itself, perhaps just now.
    shutil.rmtree(home, ignore_errors=True)


def chosen(signer: Signer, name: str, kind: Kind = Kind.VM, arch: Arch = Arch.AARCH64) -> Choice:
    """From the real catalogue, with the publisher's key in place of the real one."""
    choice = catalogue.find(ENTRIES, name, arch, kind)
    if choice.file.key:
        signed = dataclasses.replace(choice.file, key=signer.key("publisher"))
        choice = dataclasses.replace(choice, file=signed)
    return choice


def fetch(
    choice: Choice,
    folder: Path,
    site: Site,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fetched:
    return catalogue.fetch(
        choice, folder, mirrors={choice.entry.source.name: f"{site.url}/at"}, progress=progress
    )


def problem(choice: Choice, folder: Path, site: Site) -> Problem:
    """What the fetch ends with. Nothing may stand under the final name then."""
    with pytest.raises(Problem) as caught:
        fetch(choice, folder, site)
    left = {path.name for path in folder.glob("*")} if folder.exists() else set()
    assert not {name for name in left if not name.endswith((".part", ".part.json"))}
    return caught.value


ARMV7, VM, CONTAINER = Arch.ARMV7L, Kind.VM, Kind.CONTAINER
LAYOUTS = [
    (put_debian, "debian-13", VM, Arch.AARCH64, "SHA-512 sum in SHA512SUMS from localhost"),
    (put_ubuntu, "ubuntu-24.04", VM, Arch.AARCH64, "in SHA256SUMS, signed by publisher ("),
    (put_ubuntu_kernel, "ubuntu-24.04", Kind.KERNEL, Arch.AARCH64, "signed by publisher ("),
    (put_fedora, "fedora-44", VM, Arch.AARCH64, "CHECKSUM, signed by publisher ("),
    (put_alpine, "alpine-3.23", VM, Arch.AARCH64, "over HTTPS; no signature was checked: "),
    (put_opensuse, "opensuse-leap-16.0", VM, Arch.AARCH64, "SHA-256 sum in Leap-16.0-Minimal"),
    (put_rocky, "rocky-10", VM, Arch.AARCH64, "no signature was checked: no signature of the sums"),
    (put_almalinux, "almalinux-10", VM, Arch.AARCH64, "SHA-256 sum in CHECKSUM, signed by"),
    (put_centos, "centos-stream-10", VM, Arch.AARCH64, "over HTTPS"),
    (put_archlinuxarm, "archlinuxarm", CONTAINER, ARMV7, "signature of the image by publisher"),
    (put_freebsd, "freebsd-15", VM, Arch.AARCH64, "SHA-512 sum in CHECKSUM.SHA512"),
    (put_linuxcontainers, "debian-13-container", CONTAINER, ARMV7, "sum in index from localhost"),
]


@pytest.mark.parametrize(
    ("put", "name", "kind", "arch", "proof"), LAYOUTS, ids=[row[1] + row[2] for row in LAYOUTS]
)
def test_every_publishers_layout(
    put: Callable[[Site, Signer], None],
    name: str,
    kind: Kind,
    arch: Arch,
    proof: str,
    site: Site,
    signer: Signer,
    tmp_path: Path,
) -> None:
    put(site, signer)
    choice = chosen(signer, name, kind, arch)
    seen: list[tuple[int, int]] = []
    fetched = fetch(choice, tmp_path / "new", site, lambda *step: seen.append(step))
    assert fetched.path.read_bytes() == IMAGE
    assert [path.name for path in (tmp_path / "new").iterdir()] == [fetched.path.name]
    assert proof in fetched.verified_by
    algorithm, _, digits = fetched.checksum.partition(":")
    assert digits == sha(algorithm, IMAGE)
    assert (seen[0], seen[-1]) == ((0, len(IMAGE)), (len(IMAGE), len(IMAGE)))

    site.asked.clear()
    assert fetch(choice, tmp_path / "new", site) == fetched
    image = unquote(fetched.url.removeprefix(site.url))
    assert site.asked_for(image) == []


def test_a_newer_image_replaces_the_one_that_is_there(
    site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_debian(site, signer)
    choice = chosen(signer, "debian-13")
    (tmp_path / "debian-13-aarch64-vm.qcow2").write_bytes(OTHER)
    assert fetch(choice, tmp_path, site).path.read_bytes() == IMAGE


def test_a_changed_signed_image_replaces_the_one_that_is_there(
    site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_archlinuxarm(site, signer)
    choice = chosen(signer, "archlinuxarm", CONTAINER, ARMV7)
    (tmp_path / "archlinuxarm-armv7l-container.tar.gz").write_bytes(OTHER)
    assert fetch(choice, tmp_path, site).path.read_bytes() == IMAGE


# --- going on ---


def test_a_cut_is_mended_in_the_same_run(site: Site, signer: Signer, tmp_path: Path) -> None:
    put_alpine(site, signer)
    site.pages[ALPINE].cuts = [1_000_000, 700_000]
    assert fetch(chosen(signer, "alpine-3.23"), tmp_path, site).path.read_bytes() == IMAGE
    asked = site.asked_for(ALPINE)
    assert asked[0] == ""
    assert len(asked) == 3
    assert all(ranged.startswith("bytes=") for ranged in asked[1:])


def test_the_next_run_goes_on_where_this_one_stopped(
    site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_alpine(site, signer)
    choice = chosen(signer, "alpine-3.23")
    site.pages[ALPINE].cuts = [300_000] * web.TRIES
    told = problem(choice, tmp_path, site)
    assert told.what.startswith("localhost cut the connection in the middle of generic_alpine")
    assert "goes on where it stopped" in told.mend
    have = (tmp_path / "alpine-3.23-aarch64-vm.qcow2.part").stat().st_size
    assert 0 < have < len(IMAGE)
    site.asked.clear()
    steps: list[tuple[int, int]] = []
    fetched = fetch(choice, tmp_path, site, lambda *step: steps.append(step))
    assert fetched.path.read_bytes() == IMAGE
    assert site.asked_for(ALPINE) == [f"bytes={have}-"]
    assert steps[0] == (have, len(IMAGE))


@pytest.mark.parametrize(
    "change", ["image and sum", "all but the tag", "entity tag alone", "no ranges", "no tag"]
)
def test_a_file_that_changed_in_between_starts_anew(
    change: str, site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_alpine(site, signer)
    choice = chosen(signer, "alpine-3.23")
    page = site.pages[ALPINE]
    page.cuts = [300_000] * web.TRIES
    if change == "no tag":
        page.etag = ""
    problem(choice, tmp_path, site)
    body = IMAGE
    match change:
        case "image and sum":
            body = OTHER
            site.put(ALPINE, body)
            site.put(f"{ALPINE}.sha512", f"{sha('sha512', body)}\n")
        case "all but the tag":
            body = OTHER
            site.put(ALPINE, body, etag=page.etag)
            site.put(f"{ALPINE}.sha512", f"{sha('sha512', body)}\n")
        case "entity tag alone":
            site.put(ALPINE, IMAGE, etag='"rebuilt"')
        case "no ranges":
            page.ranges = False
    site.asked.clear()
    assert fetch(choice, tmp_path, site).path.read_bytes() == body
    asks_for_the_rest = change in ("entity tag alone", "no ranges")
    assert [bool(ranged) for ranged in site.asked_for(ALPINE)] == [asks_for_the_rest]


def test_the_date_serves_where_there_is_only_a_weak_tag(
    site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_alpine(site, signer)
    page = site.pages[ALPINE]
    page.etag, page.modified = 'W/"1"', "Sat, 21 Nov 2026 05:24:00 GMT"
    page.cuts = [1_000_000]
    assert fetch(chosen(signer, "alpine-3.23"), tmp_path, site).path.read_bytes() == IMAGE
    assert site.asked_for(ALPINE)[1].startswith("bytes=")


def test_two_at_once_do_not_write_one_file(site: Site, signer: Signer, tmp_path: Path) -> None:
    put_alpine(site, signer)
    with web.unfinished(tmp_path / "alpine-3.23-aarch64-vm.qcow2.part"):
        told = problem(chosen(signer, "alpine-3.23"), tmp_path, site)
    assert told.code == Exit.BUSY


# --- what proves nothing ---


def test_a_wrong_sum(site: Site, signer: Signer, tmp_path: Path) -> None:
    put_alpine(site, signer)
    site.put(ALPINE, OTHER)
    told = problem(chosen(signer, "alpine-3.23"), tmp_path, site)
    assert sha("sha512", OTHER) in told.what
    assert sha("sha512", IMAGE) in told.what
    assert "localhost" in told.what
    assert "removed" in told.mend
    assert list(tmp_path.iterdir()) == []


def by_stranger(site: Site, signer: Signer) -> None:
    sums = site.pages["/at/releases/noble/release/SHA256SUMS"].body
    site.put("/at/releases/noble/release/SHA256SUMS.gpg", signer.detached(sums, who="stranger"))


def sums_changed(site: Site, signer: Signer) -> None:
    site.pages["/at/releases/noble/release/SHA256SUMS"].body += b"\n"


def no_signature(site: Site, signer: Signer) -> None:
    site.put("/at/releases/noble/release/SHA256SUMS.gpg", "<html>welcome to the hotel</html>")


def signature_gone(site: Site, signer: Signer) -> None:
    del site.pages["/at/releases/noble/release/SHA256SUMS.gpg"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (by_stranger, "SHA256SUMS is not valid: an unknown key made it"),
        (sums_changed, "SHA256SUMS is not valid: the file was changed after it was signed"),
        (no_signature, "SHA256SUMS is not valid: it is no signature"),
        (signature_gone, "localhost has no /at/releases/noble/release/SHA256SUMS.gpg (404)"),
    ],
)
def test_a_wrong_signature_of_the_sums(
    harm: Callable[[Site, Signer], None], words: str, site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_ubuntu(site, signer)
    harm(site, signer)
    assert words in problem(chosen(signer, "ubuntu-24.04"), tmp_path, site).what
    assert site.asked_for(UBUNTU) == []


def test_a_key_of_somebody_else_in_the_keyring_does_not_count(
    site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_ubuntu(site, signer)
    choice = chosen(signer, "ubuntu-24.04")
    other = dataclasses.replace(signer.key("publisher"), fingerprints=("0" * 40,))
    choice = dataclasses.replace(choice, file=dataclasses.replace(choice.file, key=other))
    assert "does not belong to the publisher" in problem(choice, tmp_path, site).what


def test_only_what_is_inside_a_clear_signed_file_counts(
    site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_fedora(site, signer)
    page = site.pages["/at/releases/44/Cloud/aarch64/images/Fedora-Cloud-44-1.10-aarch64-CHECKSUM"]
    name = "Fedora-Cloud-Base-Generic-44-1.10.aarch64.qcow2"
    page.body = page.body.replace(name.encode(), b"x")
    forged = f"SHA256 ({name}) = {sha('sha256', IMAGE)}\n".encode()
    real = signer.clear(b"SHA256 (x) = " + b"0" * 64 + b"\n")
    for body, words in (
        (forged + real, "has no SHA-256 or SHA-512 sum"),
        (real + forged, "has no SHA-256 or SHA-512 sum"),
        (real + signer.clear(forged, who="stranger"), "it has more than one message"),
        (signer.clear(forged, who="stranger"), "an unknown key made it"),
        (signer.clear(forged).replace(name.encode(), b"y" + name.encode()), "was changed after"),
        (forged, "it is no signature"),
    ):
        page.body = body
        assert words in problem(chosen(signer, "fedora-44"), tmp_path, site).what


def test_a_wrong_signature_of_the_image(site: Site, signer: Signer, tmp_path: Path) -> None:
    put_archlinuxarm(site, signer)
    site.put("/at/ArchLinuxARM-armv7-latest.tar.gz", OTHER)
    told = problem(chosen(signer, "archlinuxarm", CONTAINER, ARMV7), tmp_path, site)
    assert "Arch Linux ARM is not valid: the file was changed" in told.what
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_not_here_is_said_before_the_download(site: Site, tmp_path: Path) -> None:
    choice = catalogue.find(ENTRIES, "archlinuxarm", Arch.AARCH64, CONTAINER)
    assert choice.file.key
    if choice.file.key.file.exists():
        pytest.skip("somebody installed that key here")
    told = problem(choice, tmp_path, site)
    assert "no key /usr/share/keyrings/archlinuxarm.gpg" in told.what
    assert "gpg --recv-keys" in told.mend
    assert site.asked == []


def test_no_gpgv(
    site: Site, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature, "GPGV", "gpgv-of-nowhere")
    told = problem(chosen(signer, "ubuntu-24.04"), tmp_path, site)
    assert "apt-get install gpgv" in told.mend


def test_sums_that_do_not_name_the_image(site: Site, signer: Signer, tmp_path: Path) -> None:
    put_debian(site, signer)
    site.put("/at/trixie/latest/SHA512SUMS", f"{sha('sha512', IMAGE)}  another.qcow2\n")
    told = problem(chosen(signer, "debian-13"), tmp_path, site)
    assert "SHA512SUMS at localhost has no SHA-256 or SHA-512 sum of debian-13-" in told.what


def test_plain_http_is_told(plain: Site, site: Site, signer: Signer, tmp_path: Path) -> None:
    put_debian(plain, signer)
    put_ubuntu(plain, signer)
    fetched = fetch(chosen(signer, "debian-13"), tmp_path, plain)
    assert "over plain HTTP, which anyone between can change" in fetched.verified_by
    assert (
        "signed by publisher" in fetch(chosen(signer, "ubuntu-24.04"), tmp_path, plain).verified_by
    )


def test_sums_do_not_come_from_https_by_way_of_http(
    plain: Site, site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_debian(plain, signer)
    put_debian(site, signer)
    path = "/at/trixie/latest/SHA512SUMS"
    site.put(path, b"", status=302, location=plain.url + path)
    told = problem(chosen(signer, "debian-13"), tmp_path, site)
    assert told.what == "localhost sends us from HTTPS to plain HTTP for SHA512SUMS."


def test_the_image_itself_may_come_from_a_plain_mirror(
    plain: Site, site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_ubuntu(plain, signer)
    put_ubuntu(site, signer)
    site.put(UBUNTU, b"", status=302, location=plain.url + UBUNTU)
    assert fetch(chosen(signer, "ubuntu-24.04"), tmp_path, site).path.read_bytes() == IMAGE


# --- the network ---


def page_status(status: int) -> Callable[[Site], None]:
    return lambda site: setattr(site.pages[ALPINE], "status", status)


def empty_folder(site: Site) -> None:
    for path in [path for path in site.pages if path.startswith(ALPINE.rpartition("_")[0])]:
        del site.pages[path]
    site.put(f"{ALPINE.rpartition('/')[0]}/README", "moved")


def in_circles(site: Site) -> None:
    site.put(ALPINE, b"", status=302, location=site.url + ALPINE)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (page_status(404), f"localhost has no {ALPINE} (404)."),
        (page_status(403), "localhost does not let us have generic_alpine"),
        (page_status(503), "localhost is out of order or overloaded (503)."),
        (page_status(418), "localhost answers 418"),
        (empty_folder, "localhost has nothing like generic_alpine-3.23.*-aarch64-uefi-cloudinit"),
        (in_circles, "localhost sends us in circles."),
    ],
)
def test_what_a_server_says_is_one_sentence(
    harm: Callable[[Site], None], words: str, site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_alpine(site, signer)
    harm(site)
    told = problem(chosen(signer, "alpine-3.23"), tmp_path, site)
    assert words in told.what
    assert told.mend


def test_a_refused_connection(site: Site, signer: Signer, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        site.url = f"https://localhost:{free.getsockname()[1]}"
        told = problem(chosen(signer, "alpine-3.23"), tmp_path, site)
    assert told.what == "localhost cannot be reached: connection refused."


def test_an_unknown_name(site: Site, signer: Signer, tmp_path: Path) -> None:
    site.url = "https://images.invalid"
    told = problem(chosen(signer, "alpine-3.23"), tmp_path, site)
    assert told.what == "images.invalid cannot be reached: its name is not known."


def test_a_certificate_of_an_unknown_authority(
    site: Site, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_alpine(site, signer)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    told = problem(chosen(signer, "alpine-3.23"), tmp_path, site)
    assert told.what == "The certificate of localhost is not to be trusted."
    assert "REQUESTS_CA_BUNDLE" in told.mend


def test_a_server_that_says_nothing(
    site: Site, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "READ_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site.url = f"http://localhost:{silent.getsockname()[1]}"
        told = problem(chosen(signer, "alpine-3.23"), tmp_path, site)
    assert told.what.startswith("localhost sent nothing for")


def test_a_server_that_is_too_slow(
    site: Site, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_alpine(site, signer)
    monkeypatch.setattr(web, "SLOW_SECONDS", 0)
    monkeypatch.setattr(web, "SLOW_RATE", 1 << 60)
    told = problem(chosen(signer, "alpine-3.23"), tmp_path, site)
    assert told.what.startswith("localhost is too slow: ")


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    made = Proxy(request.param)
    made.start()
    yield made
    made.listener.close()


@pytest.mark.parametrize("proxy", [True], indirect=True)
def test_through_a_proxy(
    proxy: Proxy, site: Site, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_ubuntu(site, signer)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert fetch(chosen(signer, "ubuntu-24.04"), tmp_path, site).path.read_bytes() == IMAGE
    assert set(proxy.asked) == {site.url.removeprefix("https://")}


@pytest.mark.parametrize("proxy", [False], indirect=True)
def test_a_proxy_that_refuses(
    proxy: Proxy, site: Site, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    told = problem(chosen(signer, "ubuntu-24.04"), tmp_path, site)
    assert told.what == "The proxy 127.0.0.1 does not connect us to localhost."
    assert "HTTPS_PROXY" in told.mend


def test_a_password_in_a_mirrors_address_is_not_told(
    site: Site, signer: Signer, tmp_path: Path
) -> None:
    put_alpine(site, signer)
    choice = chosen(signer, "alpine-3.23")
    mirrors = {"alpine": f"{site.url.replace('//', '//me:secret@')}/at/"}
    fetched = catalogue.fetch(choice, tmp_path, mirrors=mirrors, progress=lambda done, total: None)
    assert fetched.url == site.url + ALPINE
    assert "secret" not in fetched.verified_by


# --- the disk ---


def test_a_file_that_may_not_grow(site: Site, signer: Signer, tmp_path: Path) -> None:
    put_alpine(site, signer)
    choice = chosen(signer, "alpine-3.23")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        told = problem(choice, tmp_path, site)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.what == f"There is no room for the image in {tmp_path}: file too large."
    assert fetch(choice, tmp_path, site).path.read_bytes() == IMAGE


def test_a_full_disk(site: Site, signer: Signer, tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    try:
        put_alpine(site, signer)
        told = problem(chosen(signer, "alpine-3.23"), tmp_path, site)
        assert told.what.endswith("3 MiB more are needed and 1 MiB are free.")
        assert "Make room" in told.mend
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made(site: Site, signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="cannot be made: Not a directory"):
        fetch(chosen(signer, "alpine-3.23"), tmp_path / "file/images", site)


@pytest.mark.parametrize(
    "index",
    [
        "not JSON",
        "[]",
        '{"products": []}',
        '{"products": {"debian:trixie:armhf:cloud": {"versions": {"1": {}}}}}',
        '{"products": {"debian:trixie:armhf:cloud": {"versions": {"1": {"items": {"root.tar.xz":'
        ' {"path": "../../x", "sha256": "' + "a" * 64 + '"}}}}}}}',
    ],
)
def test_a_broken_index(index: str, site: Site, signer: Signer, tmp_path: Path) -> None:
    site.put("/at/streams/v1/images.json", index)
    told = problem(chosen(signer, "debian-13-container", CONTAINER, ARMV7), tmp_path, site)
    assert told.what == "localhost has an index of images that cannot be read."


def test_an_index_without_the_image(site: Site, signer: Signer, tmp_path: Path) -> None:
    site.put("/at/streams/v1/images.json", '{"products": {}}')
    told = problem(chosen(signer, "debian-13-container", CONTAINER, ARMV7), tmp_path, site)
    assert told.what == "localhost has no image debian:trixie:armhf:cloud now."


@pytest.mark.skipif(
    "DOZEN_TEST_PUBLISHERS" not in os.environ,
    reason="asks the real publishers only with DOZEN_TEST_PUBLISHERS=1",
)
def test_the_real_publishers_still_have_it_all(tmp_path: Path) -> None:
    """For who maintains the catalogue: addresses and signed sums, not the images themselves."""
    wrong = {}
    with web.session() as session:
        for entry in ENTRIES:
            for file in entry.files:
                for arch in file.arch:
                    choice = Choice(entry, file, arch)
                    try:
                        target = resolve.target(session, choice, entry.source.mirror)
                        _proof(session, choice, target, tmp_path)
                        session.head(
                            target.url, allow_redirects=True, timeout=30
                        ).raise_for_status()
                    except (Problem, requests.RequestException) as error:
                        wrong[f"{entry.name} {file.kind} {arch}"] = str(error)
    assert wrong == {}
