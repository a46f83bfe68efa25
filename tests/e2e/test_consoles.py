"""Serial consoles and screens of servers, by the clients that people use.

Only a browser and a terminal at the gateway show that pages, proxy, token and QEMU fit each other.
"""

from __future__ import annotations

import os
import pty
import re
import secrets
import select
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from testcloud import TestCloud, eventually
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from dozencloud.cloud.settings import SCREEN_PORTS, SERIAL_PORTS
from dozencloud.images.debian import disk
from dozencloud.images.packages import apt, debs
from dozencloud.images.tiny import direct

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MIB = 1 << 20
SCREEN = "screen"
"""A server with UEFI and a boot menu, which waits for keys on its screen."""


def shown(cloud: TestCloud, server: str, kind: str, code: int | None = 0) -> str:
    """What `openstack console url show` says."""
    words = ("openstack", "console", "url", "show", f"--{kind}", server, "-f", "value", "-c", "url")
    done = cloud.dozen(*words, code=code)
    return (done.stdout or done.stderr).strip()


def log(cloud: TestCloud, server: str) -> str:
    found = cloud.sdk.compute.find_server(server)
    return str(cloud.sdk.compute.get_server_console_output(found)["output"])


# ---- the serial line ----------------------------------------------------------------------


@contextmanager
def line(cloud: TestCloud, url: str) -> Iterator[ClientConnection]:
    """The WebSocket of a serial console, with the cloud's own certificate authority only."""
    context = ssl.create_default_context(cafile=str(cloud.cloud.ca))
    with connect(url, ssl=context, subprotocols=[Subprotocol("binary")]) as socket:
        yield socket


def expect(read: Callable[[float], bytes], pattern: str, seconds: float = 30) -> str:
    """Read until the pattern appears; what was read."""
    said, end = "", time.monotonic() + seconds
    while not re.search(pattern, said):
        left = end - time.monotonic()
        assert left > 0, f"no {pattern!r} in {said!r}"
        said += read(left).decode(errors="replace")
    return said


def listen(socket: ClientConnection) -> Callable[[float], bytes]:
    def read(seconds: float) -> bytes:
        piece = socket.recv(timeout=seconds)
        assert isinstance(piece, bytes)
        return piece

    return read


@pytest.fixture(scope="module")
def password(cloud: TestCloud) -> Iterator[str]:
    """The tiny image lets nobody in on the console until somebody sets a password."""
    first, chosen = cloud.first(), secrets.token_hex(8)
    first.run(f"printf '{chosen}\\n{chosen}\\n' | passwd root", user="root")
    yield chosen
    first.run("passwd -l root", user="root")


def log_in(read: Callable[[float], bytes], write: Callable[[bytes], Any], password: str) -> None:
    """From whatever state the terminal is in to a command's output, then out again."""
    write(b"\r")
    expect(read, "login: ")
    write(b"root\r")
    expect(read, "Password: ")
    write(password.encode() + b"\r")
    expect(read, r"root@first:~# ")
    write(b"echo $((6 * 7))-$(uname -m)\r")
    expect(read, "42-aarch64")
    write(b"exit\r")
    expect(read, "login: ")


def test_a_websocket_client_logs_in_and_is_alone(cloud: TestCloud, password: str) -> None:
    url = shown(cloud, "first", "serial")
    assert url.startswith(cloud.cloud.public_url.replace("https", "wss") + "/console/serial/")
    with line(cloud, url) as socket:
        log_in(listen(socket), socket.send, password)
        assert "one at a time" in shown(cloud, "first", "serial", code=1)
        # The same address, while it is in use.
        with line(cloud, url) as second, pytest.raises(ConnectionClosed):
            second.recv(timeout=20)
        socket.send(b"\r")
        expect(listen(socket), "login: ")
    eventually(
        lambda: shown(cloud, "first", "serial", code=None).startswith("wss:"),
        seconds=20,
        what="the console to be free again",
    )


def test_a_wrong_token_opens_nothing(cloud: TestCloud) -> None:
    base = shown(cloud, "first", "serial").partition("=")[0]
    with line(cloud, f"{base}={secrets.token_hex(16)}") as socket, pytest.raises(ConnectionClosed):
        socket.recv(timeout=20)


def test_dozen_console_in_a_terminal(cloud: TestCloud, password: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        cloud.words("console", "first"), stdin=theirs, stdout=theirs, stderr=theirs
    )

    def read(seconds: float) -> bytes:
        ready, _, _ = select.select([ours], [], [], seconds)
        return os.read(ours, 4096) if ready else b""

    expect(read, "Ctrl-\\] ends it")
    # What is typed before the connection stands is the terminal's own business.
    end = time.monotonic() + 30
    while "login: " not in (said := read(1).decode(errors="replace")):
        assert time.monotonic() < end, said
        os.write(ours, b"\r")
    log_in(read, lambda keys: os.write(ours, keys), password)
    os.write(ours, b"\x1d")
    assert process.wait(timeout=20) == 0
    os.close(ours)
    os.close(theirs)


def test_dozen_console_without_a_terminal(cloud: TestCloud) -> None:
    assert "not a terminal" in cloud.dozen("console", "first", code=1).stderr


def test_no_other_user_of_the_machine_reaches_a_console(cloud: TestCloud) -> None:
    """The ports have no password; a firewall rule names who may connect."""
    ranges = (range(first, last + 1) for first, last in (SERIAL_PORTS, SCREEN_PORTS))
    ports = [str(port) for each in ranges for port in each]
    program = (
        "import socket, sys\n"
        "for port in sys.argv[1:]:\n"
        "    with socket.socket() as tried:\n"
        "        print(port, tried.connect_ex(('127.0.0.1', int(port))))"
    )
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    as_root = cloud.inside(sys.executable, "-c", program, *ports).split()
    as_nobody = cloud.inside(*nobody, "/usr/bin/python3", "-c", program, *ports).split()
    assert "0" in as_root[1::2], "the first server's line is there"
    assert as_nobody[::2] == ports
    assert set(as_nobody[1::2]) == {"111"}, as_nobody


# ---- the screen ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def screen(cloud: TestCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose boot loader shows a menu and waits."""
    work = tmp_path_factory.mktemp("screen")
    image = direct.build("aarch64", cloud.cloud.cache)
    source = apt.Source("http://deb.debian.org/debian", "trixie", direct.KEYRING)
    debs.unpack(debs.fetch(source, "arm64", ["systemd-boot-efi"], work / "apt"), work / "root")
    entry, loader = work / "tiny.conf", work / "loader.conf"
    entry.write_text(f"title tiny\nlinux /vmlinuz\ninitrd /initrd\noptions {image.command_line}\n")
    loader.write_text("default tiny.conf\ntimeout menu-force\n")
    target = work / "screen.img"
    with target.open("wb") as file:
        file.truncate(96 * MIB)
    files = {
        "EFI/BOOT/BOOTAA64.EFI": work / "root/usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
        "vmlinuz": image.kernel,
        "initrd": image.initrd,
        "loader/entries/tiny.conf": entry,
        "loader/loader.conf": loader,
    }
    disk.make_esp(target, 0, 96 * MIB, 0x12345678, files, 1 << 30)
    # A boot menu does not hear the power button.
    patience = ("--property", "os_shutdown_timeout=1")
    cloud.dozen("image", "import", "--name", SCREEN, *patience, str(target))
    compute = cloud.sdk.compute
    server = compute.create_server(
        name=SCREEN,
        image_id=cloud.sdk.image.find_image(SCREEN).id,
        flavor_id=compute.find_flavor("m1.micro").id,
        networks=[{"uuid": cloud.sdk.network.find_network("private").id}],
    )
    compute.wait_for_server(server, interval=0.3, wait=60)
    eventually(lambda: "tiny" in log(cloud, SCREEN), seconds=60, what="the boot menu", every=1)
    yield SCREEN
    compute.delete_server(server)
    compute.wait_for_delete(server, interval=0.3, wait=60)
    cloud.sdk.image.delete_image(cloud.sdk.image.find_image(SCREEN))


@dataclass(frozen=True)
class Browser:
    """Debian's Chromium without a display. pictures: where `look` puts them."""

    driver: Any
    pictures: Path

    def open(self, url: str) -> None:
        self.driver.get("about:blank")
        self.driver.get(url)

    def status(self) -> str:
        return str(
            self.driver.execute_script("return document.querySelector('output').textContent")
        )

    def look(self, name: str) -> None:
        self.driver.save_screenshot(str(self.pictures / f"{name}.png"))

    def type(self, keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def lit(self) -> int:
        """How many pixels of the screen are not black."""
        script = (
            "const canvas = document.querySelector('canvas');"
            "if (!canvas || !canvas.width) return 0;"
            "const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
            "let lit = 0;"
            "for (let i = 0; i < all.data.length; i += 4)"
            "  if (all.data[i] + all.data[i + 1] + all.data[i + 2] > 60) lit += 1;"
            "return lit;"
        )
        return int(self.driver.execute_script(script))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    # No sandbox: Chromium refuses to make one as root. The certificate is the cloud's own.
    for word in ("headless=new", "no-sandbox", "disable-gpu", "ignore-certificate-errors"):
        options.add_argument(f"--{word}")
    options.add_argument("--no-proxy-server")
    options.add_argument("--window-size=1000,760")
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(60)
    yield Browser(driver, tmp_path_factory.mktemp("pictures"))
    driver.quit()


def test_the_screen_in_a_browser(cloud: TestCloud, screen: str, browser: Browser) -> None:
    browser.open(shown(cloud, screen, "novnc"))
    eventually(lambda: "Connected" in browser.status(), seconds=30, what=browser.status())
    eventually(lambda: browser.lit() > 500, seconds=30, what="a picture", every=1)
    browser.look("screen")
    before, menu = log(cloud, screen), browser.lit()
    browser.type("h")  # systemd-boot's help
    eventually(
        lambda: "(d)efault" in log(cloud, screen).removeprefix(before),
        seconds=30,
        what="the answer to the key",
        every=1,
    )
    eventually(lambda: browser.lit() != menu, seconds=30, what="the answer on the screen", every=1)
    browser.look("screen-after-key")


def test_the_serial_console_in_a_browser(cloud: TestCloud, password: str, browser: Browser) -> None:
    url = cloud.dozen("console", "--url", "first").stdout.strip()
    assert url.startswith(f"{cloud.cloud.public_url}/console/serial/#token=")
    browser.open(url)
    eventually(lambda: "Connected" in browser.status(), seconds=30, what=browser.status())

    def rows() -> str:
        script = "return document.querySelector('.xterm-rows').innerText"
        return str(browser.driver.execute_script(script))

    browser.type("\n")
    eventually(lambda: "login:" in rows(), seconds=30, what="the prompt")
    browser.look("serial")
    browser.open("about:blank")


def test_pages_that_cannot_connect_say_why(cloud: TestCloud, browser: Browser) -> None:
    base = cloud.cloud.public_url
    for page, words in (
        ("serial/", "lacks its token"),
        ("vnc/", "lacks its token"),
        ("serial/#token=wrong", "expired"),
        ("vnc/?path=%3Ftoken%3Dwrong", "expired"),
    ):
        browser.open(f"{base}/console/{page}")
        eventually(lambda words=words: words in browser.status(), seconds=30, what=page)  # type: ignore[misc]


# ---- servers without one ------------------------------------------------------------------


def test_a_server_without_a_screen_says_so(cloud: TestCloud) -> None:
    """The small image has no firmware that draws, and no driver."""
    assert "This server has no screen" in shown(cloud, "first", "novnc", code=1)


def test_the_log_begins_with_the_first_byte_and_goes_on(cloud: TestCloud, screen: str) -> None:
    assert "UEFI firmware" in log(cloud, screen)[:400]
    assert "Booting Linux on physical CPU" in log(cloud, "first")[:200]


def test_a_server_that_is_off_says_so(cloud: TestCloud, screen: str) -> None:
    compute = cloud.sdk.compute
    server = compute.find_server(screen)
    compute.stop_server(server)
    compute.wait_for_server(server, status="SHUTOFF", interval=0.3, wait=60)
    for kind in ("serial", "novnc"):
        assert "does not run" in shown(cloud, screen, kind, code=1)
    assert "does not run" in cloud.dozen("console", "--url", screen, code=1).stderr
