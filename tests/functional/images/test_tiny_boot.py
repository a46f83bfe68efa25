"""The tiny image, built from the mirror and booted under QEMU.

Only its own start shows what its init does with metadata, keys, a disk and the power button; each
start takes some seconds.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from dozencloud.errors import Problem
from dozencloud.images.tiny import direct
from dozencloud.images.tiny.direct import TinyImage

pytestmark = pytest.mark.functional

MACHINES = {
    "aarch64": ("qemu-system-aarch64", "cortex-a57"),
    "armv7l": ("qemu-system-arm", "cortex-a15"),
}
INSTANCE = "83679162-1378-4288-a2d4-70e13ec132aa"
PASSWORD = 'kX7"\\q$9'


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk.qcow2"


def config_drive(
    folder: Path, key: Path, *, instance: str = INSTANCE, user_data: str | bytes | None = None
) -> Path:
    latest = folder / instance / "openstack" / "latest"
    latest.mkdir(parents=True)
    about = {
        "uuid": instance,
        "hostname": "first.novalocal",
        "admin_pass": PASSWORD,
        "devices": [],
        "public_keys": {"my.key": key.with_suffix(".pub").read_text()},
    }
    (latest / "meta_data.json").write_text(json.dumps(about))
    if user_data is not None:
        data = user_data if isinstance(user_data, bytes) else user_data.encode()
        (latest / "user_data").write_bytes(data)
    target = folder / f"{instance}.iso"
    subprocess.run(
        # As Nova calls it (nova/virt/configdrive.py).
        [
            *("genisoimage", "-quiet", "-o", target, "-ldots", "-allow-lowercase"),
            *("-allow-multidot", "-l", "-publisher", "test", "-J", "-r", "-V", "config-2"),
            folder / instance,
        ],
        check=True,
        capture_output=True,
    )
    return target


class Guest:
    """One emulated server; its console is collected line by line with the time of arrival."""

    def __init__(
        self, image: TinyImage, folder: Path, disk: Path | None, *more: str, network: str = ""
    ) -> None:
        program, cpu = MACHINES[image.architecture]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._monitor = folder / "qmp"
        self._monitor.unlink(missing_ok=True)
        self._known = folder / "known_hosts"
        command = [
            *(program, "-M", "virt", "-cpu", cpu, "-m", "256", "-display", "none"),
            *("-nodefaults", "-serial", "stdio"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", image.command_line),
            *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22{network}"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
            *("-qmp", f"unix:{self._monitor},server=on,wait=off"),
            *more,
        ]
        if disk is not None:
            command += ["-drive", f"if=none,id=disk,format=qcow2,file={disk}"]
            command += ["-device", "virtio-blk-pci,drive=disk"]
        self.console = ""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self.process.stdout
        while data := os.read(self.process.stdout.fileno(), 65536):
            self.console += data.decode(errors="replace").replace("\r", "")

    def wait(self, pattern: str, seconds: float = 60) -> float:
        """Seconds from the start until the console shows the pattern."""
        self._until(lambda: re.search(pattern, self.console) is not None, pattern, seconds)
        return time.monotonic() - self.started

    def _until(self, true: Callable[[], bool], what: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                pytest.fail(f"no {what} within {seconds} s; console:\n{self.console[-4000:]}")
            time.sleep(0.02)

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ssh(self, key: Path, command: str, *, user: str = "root") -> str:
        """Run a command in the guest; fails the test if it, or the login, fails."""
        done = self.try_ssh(key, command, user=user)
        assert done.returncode == 0, done.stderr + self.console[-2000:]
        return done.stdout

    def try_ssh(
        self, key: Path, command: str, *, user: str = "root", extra: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("ssh", "-F", "none", "-i", key, "-p", str(self.port), "-o", "BatchMode=yes"),
                *("-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=20"),
                *("-o", f"UserKnownHostsFile={self._known}", "-o", "HostKeyAlias=guest"),
                *("-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", *extra),
                *(f"{user}@127.0.0.1", command),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def press_power_button(self) -> float:
        """Seconds until the machine is off."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
            stream = monitor.makefile("rw")
            stream.readline()
            for command in ("qmp_capabilities", "system_powerdown"):
                stream.write(json.dumps({"execute": command}) + "\n")
                stream.flush()
                stream.readline()
            pressed = time.monotonic()
            self._until(lambda: self.process.poll() is not None, "power off", 30)
            return time.monotonic() - pressed

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


Start = Callable[..., Guest]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    guests: list[Guest] = []

    def run(image: TinyImage, disk: Path | None = None, *more: str, network: str = "") -> Guest:
        if disk is not None and not disk.exists():
            shutil.copyfile(image.disk, disk)
        guests.append(Guest(image, tmp_path, disk, *more, network=network))
        return guests[-1]

    yield run
    for guest in guests:
        guest.stop()


def on_scsi(drive: Path) -> tuple[str, ...]:
    """A config drive as our servers get it: a CD-ROM on virtio-scsi."""
    return (
        *("-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=config"),
        *("-drive", f"if=none,id=config,format=raw,media=cdrom,file={drive}"),
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("architecture", ["aarch64", "armv7l"])
def test_a_server_with_a_config_drive(
    architecture: str, cache: Path, tmp_path: Path, key: Path, disk: Path, start: Start
) -> None:
    image = direct.build(architecture, cache)
    script = "#!/bin/sh\necho once >>/root/ran\n"
    drive = config_drive(tmp_path, key, user_data=script)
    guest = start(image, disk, *on_scsi(drive))
    guest.wait(r"Linux version")
    guest.wait(r"first login: ")
    guest.wait(r"tiny: ready after [\d.]+ s")
    guest.wait(r"user data ended with status 0")

    assert guest.ssh(key, "uname -m; hostname; id -un").split() == [architecture, "first", "root"]
    assert guest.ssh(key, "id -un; pwd", user="dozen").split() == ["dozen", "/home/dozen"]
    tools = "sync curl ping ip nc wget dmesg httpd ssh"
    found = guest.ssh(key, f"for tool in {tools}; do command -v $tool; done", user="dozen")
    assert [Path(line).name for line in found.split()] == tools.split()
    assert "OpenSSL" in guest.ssh(key, "curl --version")
    assert guest.ssh(key, "ip route show default").startswith("default via 10.0.2.2 dev eth0")
    assert guest.try_ssh(key, "touch /mine", user="dozen").returncode != 0

    by_password = ("-o", "PreferredAuthentications=password", "-o", "PubkeyAuthentication=no")
    refused = guest.try_ssh(key, "true", extra=by_password)
    assert "Permission denied (publickey)" in refused.stderr

    host_key = guest.ssh(key, "sha256sum /etc/dropbear/ed25519")
    guest.ssh(key, "echo kept >/root/file; echo kept >/home/dozen/file")
    assert guest.press_power_button() < 10
    assert "still in use" not in guest.console

    guest = start(image, disk, *on_scsi(drive))
    guest.wait(r"first login: ")
    guest.wait(r"tiny: ready")
    assert "recovery" not in guest.console  # it was unmounted before
    assert guest.ssh(key, "sha256sum /etc/dropbear/ed25519") == host_key
    assert guest.ssh(key, "cat /root/file /home/dozen/file /root/ran").split() == [
        *("kept", "kept", "once")
    ]
    guest.type("root")
    guest.wait("Password: ")
    guest.type(PASSWORD)
    guest.wait("root@first:~# ")


@pytest.mark.timeout(120)
def test_a_disk_from_another_servers_snapshot(
    cache: Path, tmp_path: Path, key: Path, disk: Path, start: Start
) -> None:
    """The data stay; the other server's host key goes, and user data run again, packed or not."""
    image = direct.build("aarch64", cache)
    script = "#!/bin/bash\necho again >>/root/ran\n"
    guest = start(image, disk, *on_scsi(config_drive(tmp_path, key, user_data=script)))
    guest.wait(r"running it with sh")
    guest.wait(r"tiny: ready")
    old = guest.ssh(key, "sha256sum /etc/dropbear/ed25519; echo data >/root/file; sync")
    guest.press_power_button()

    other = "00000000-0000-4000-8000-000000000002"
    (tmp_path / "known_hosts").unlink()
    packed = gzip.compress(script.encode())
    drive = config_drive(tmp_path, key, instance=other, user_data=packed)
    guest = start(image, disk, *on_scsi(drive))
    guest.wait(r"tiny: ready")
    guest.wait(r"user data ended with status 0")
    assert guest.ssh(key, "cat /root/file /root/ran").split() == ["data", "again", "again"]
    assert guest.ssh(key, "sha256sum /etc/dropbear/ed25519") != old


@pytest.mark.timeout(120)
def test_without_disk_and_metadata_the_prompt_still_comes(cache: Path, start: Start) -> None:
    guest = start(direct.build("aarch64", cache))
    guest.wait(r"no disk labelled tiny-state: everything is in memory")
    guest.wait(r"Log in with ssh and your key")
    guest.wait(r"tiny login: ")
    guest.type("root")
    guest.wait("Password: ")
    guest.type("")
    guest.wait("Login incorrect")
    assert guest.press_power_button() < 10


@pytest.mark.timeout(120)
def test_metadata_from_the_service_may_come_late(
    cache: Path, tmp_path: Path, key: Path, disk: Path, start: Start
) -> None:
    """QEMU plays the network; the service answers only after the prompt is there."""
    image = direct.build("aarch64", cache)
    about = {
        "uuid": INSTANCE,
        "hostname": "late.novalocal",
        "public_keys": {"k": key.with_suffix(".pub").read_text()},
    }
    answers = tmp_path / "answers"
    answers.mkdir()
    serve = tmp_path / "serve"
    # One process for each connection, as inetd would: HTTP/1.0, the file or 404.
    serve.write_text(
        "#!/bin/sh\nread -r _ path _\nfile="
        + str(answers)
        + '/${path##*/}\nif [ -f "$file" ]; then\n'
        "printf 'HTTP/1.0 200 OK\\r\\nConnection: close\\r\\n\\r\\n'; cat \"$file\"\n"
        "else printf 'HTTP/1.0 404 Not Found\\r\\nConnection: close\\r\\n\\r\\n'; fi\n"
    )
    serve.chmod(0o755)
    network = (
        ",net=169.254.169.0/24,host=169.254.169.2,dhcpstart=169.254.169.15"
        f",guestfwd=tcp:169.254.169.254:80-cmd:{serve}"
    )
    guest = start(image, disk, network=network)
    guest.wait(r"tiny login: ")
    assert "key(s) from" not in guest.console
    (answers / "user_data").write_text("#!/bin/sh\necho ran >/root/ran\n")
    (answers / "meta_data.json.new").write_text(json.dumps(about))
    (answers / "meta_data.json.new").rename(answers / "meta_data.json")
    guest.wait(r"tiny: 1 key\(s\) from the metadata service")
    guest.wait(r"late login: ")
    guest.wait(r"user data ended with status 0")
    assert guest.ssh(key, "hostname; cat /root/ran").split() == ["late", "ran"]


@pytest.mark.timeout(300)
def test_the_same_packages_give_the_same_bytes(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = direct.build("aarch64", cache)
    monkeypatch.chdir(tmp_path)
    second = direct.build("aarch64", Path("another"))
    assert second.kernel.is_absolute()
    if first.digest != second.digest:
        pytest.skip("Debian published new packages since the cached image was built")
    assert first.initrd.read_bytes() == second.initrd.read_bytes()
    assert first.disk.read_bytes() == second.disk.read_bytes()
    assert first.kernel.read_bytes() == second.kernel.read_bytes()


@pytest.mark.parametrize(
    ("mirror", "suite", "said"),
    [
        ("http://127.0.0.1:9/debian", "trixie", "does not answer"),
        ("http://mirror.invalid/debian", "trixie", "cannot be resolved"),
        ("http://deb.debian.org/debian", "nosuchsuite", "There is no Debian nosuchsuite"),
    ],
)
def test_a_bad_mirror_is_one_sentence(mirror: str, suite: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match=said):
        direct.build("aarch64", tmp_path, mirror=mirror, suite=suite)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


MIRROR = "http://deb.debian.org/debian"


class Updated(BaseHTTPRequestHandler):
    """Debian's mirror, but its list of Debian 13's packages is not that of the signed index."""

    def do_GET(self) -> None:
        body = b""
        if self.path.startswith("/dists/trixie/main/binary-arm64/"):
            self.send_response(404 if "/by-hash/" in self.path else 200)
        elif self.path.endswith("/InRelease"):  # after whose redirection apt asks elsewhere for all
            with urlopen(MIRROR + self.path, timeout=30) as answer:  # noqa: S310
                body = answer.read()
            self.send_response(200)
        else:
            self.send_response(302)
            self.send_header("Location", MIRROR + self.path)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.timeout(120)
def test_while_the_mirror_is_updated_the_release_before_is_taken(
    tmp_path: Path, start: Start
) -> None:
    said: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Updated) as mirror:
        threading.Thread(target=mirror.serve_forever, daemon=True).start()
        image = direct.build(
            "aarch64", tmp_path, mirror=f"http://127.0.0.1:{mirror.server_port}", say=said.append
        )
        mirror.shutdown()
    assert "does not fit its signed index yet. Debian bookworm is taken instead." in said[1]
    assert image.kernel_release.startswith("6.1.")
    guest = start(image)
    guest.wait(r"tiny: ready after")
    assert guest.press_power_button() < 10


def test_a_signature_by_an_unknown_key_is_refused(tmp_path: Path) -> None:
    keyring = tmp_path / "empty.gpg"
    keyring.write_bytes(b"")
    with pytest.raises(Problem, match="is not signed by a key"):
        direct.build("aarch64", tmp_path / "cache", keyring=keyring)
