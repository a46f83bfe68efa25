"""`dozen console`: addresses, trust, whom it asks; its pages."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openstack.exceptions import ConflictException

from dozencloud.access import console
from dozencloud.access.client import trust
from dozencloud.cloud import certificates, tls
from dozencloud.cloud.installation import Cloud
from dozencloud.errors import Problem
from dozencloud.services.gateway import PAGES

SERVER = SimpleNamespace(id="1", name="a", project_id="own")


def client(**compute: Any) -> Any:
    """Of a cloud with one server."""
    answers = {"servers": lambda **_: [SERVER], **compute}
    return SimpleNamespace(compute=SimpleNamespace(**answers), current_project_id="own")


def test_the_page_of_a_socket() -> None:
    url = "wss://cloud.example:8443/console/serial/socket?token=abc"
    assert console.page(url) == "https://cloud.example:8443/console/serial/#token=abc"


def test_the_address_is_novas() -> None:
    sdk = client(
        create_console=lambda server, kind: {"url": f"{kind} of {server.id}"},
    )
    assert console.address(sdk, "a") == "serial of 1"


def test_what_nova_says_is_what_people_read() -> None:
    def refuse(server: object, kind: str) -> None:
        raise ConflictException("long text with an address", details="It does not run.")

    sdk = client(create_console=refuse)
    with pytest.raises(Problem) as caught:
        console.address(sdk, "a")
    assert caught.value.what == "a: It does not run."


def test_trust(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    tls.folder(cloud).mkdir(parents=True)
    certificates.issue_gateway(cloud)

    def settings(verify: bool | str) -> Any:
        asked = SimpleNamespace(get_requests_verify_args=lambda: (verify, None))
        return trust(SimpleNamespace(config=asked))

    own: ssl.SSLContext = settings(str(cloud.ca))
    assert own.verify_mode is ssl.CERT_REQUIRED
    assert own.cert_store_stats()["x509_ca"] == 1
    assert settings(True).verify_mode is ssl.CERT_REQUIRED
    assert settings(False).verify_mode is ssl.CERT_NONE


def test_what_the_pages_load_is_there() -> None:
    pages = [*PAGES.glob("*/index.html"), *PAGES.glob("*/*.js"), *PAGES.glob("*.js")]
    assert len(pages) == 5
    for page in pages:
        for name in re.findall(r'(?:href|src|from) ?=? ?"([^":]+)"', page.read_text()):
            assert (page.parent / name).is_file(), (page, name)


def test_the_pages_load_nothing_from_elsewhere() -> None:
    for page in [*PAGES.glob("*/index.html"), *PAGES.glob("*/*.js")]:
        assert not re.search(r"https?://", page.read_text()), page


FILES = Path(console.__file__).parents[1] / "data" / "console"


@pytest.mark.parametrize(
    ("page", "ask"),
    [
        ("serial/serial.js", "dozen console --url SERVER"),
        ("vnc/screen.js", "openstack console url show --novnc SERVER"),
    ],
)
def test_a_page_names_what_prints_an_address_for_a_browser(page: str, ask: str) -> None:
    """A link that was used is no end: `console url show --serial` prints a wss: address."""
    program = (FILES / page).read_text()
    assert f'"{ask}' in program
    said = re.findall(r"(?s)[^.]\bsay\((.*?)\);", program)
    assert sum("ASK" in words for words in said) == 2, "in each of its complaints"
    assert "console url show" not in (FILES / "common.js").read_text()
