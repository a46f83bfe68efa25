"""The command: an emulated ARM machine joins a cloud of this one and runs servers.

The controller is made here, under a root of its own; the machine runs `dozen join`; then servers
are created on the controller, which must place them on the machine.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import join

import disks
import emulated
import nodedisks
import plan
import tinyimages
from board import Board
from rich.console import Console
from rich.table import Table
from run import find_uv
from testcloud import Guest, TestCloud, eventually, new_root

from dozencloud.cloud.settings import GENEVE, VXLAN
from dozencloud.errors import Problem
from dozencloud.images.tiny import direct

UP_SECONDS = 300
"""Until the emulated machine lets us in."""
MEMORY = 350
"""MiB (PSS) that all services of a node may have."""
NAME = "arm-board"
FLAVOR = "m1.nano"
ARMHF = "tiny-armhf"
HOST, INSTANCE = (f"OS-EXT-SRV-ATTR:{name}" for name in ("host", "instance_name"))
"""Where a server is, and what libvirt calls it."""
ABOUT = "uname -m; grep -m 4 -E 'model name|CPU (impl|arch|part)' /proc/cpuinfo"
"""What a server is asked, by SSH."""


@dataclass(frozen=True)
class Wish:
    """A server, and what must come of it.

    cpu: of QEMU's command line. seconds: until its console must show a prompt. patience: s that it
    has to let us in then.
    """

    name: str
    image: str
    machine: str
    cpu: str
    domain: str = "kvm"
    seconds: float = 300
    patience: int = 20


@dataclass(frozen=True)
class Kind:
    """A machine that joins. kvm, tunnels: as `dozen node list` says."""

    architecture: str
    host: emulated.Host
    kvm: str
    tunnels: str
    wishes: tuple[Wish, ...]
    suites: tuple[str, ...] = tuple(disks.PYTHONS)
    """Debian releases that it can have."""


KINDS = {
    "64-bit": Kind(
        "aarch64",
        plan.MAX,
        "64 and 32 bit",
        GENEVE,
        (
            Wish("eight", "tiny-arm64", "aarch64", "-cpu host"),
            Wish("seven", ARMHF, "armv7l", "-cpu host,aarch64=off"),
        ),
    ),
    "32-bit": Kind(
        "armv7l",
        emulated.Host("cortex-a15", "cortex-a15", "qemu-system-arm", "virt", memory_mib=1024),
        "no",
        VXLAN,
        # An emulator in an emulator: a minute of a board is many here.
        (Wish("seven", ARMHF, "armv7l", "-cpu cortex-a15", "qemu", 2400, patience=600),),
        suites=("bookworm",),
    ),
}


@dataclass(frozen=True)
class Seen:
    """What a server was found to be. domain: libvirt's type; up: s from the request to SSH."""

    wish: Wish
    host: str
    domain: str
    machine: str
    processor: str
    address: str
    up: float
    command: str

    def complaints(self) -> Iterator[str]:
        """What is not as it must be."""
        if self.host != NAME:
            yield f"{self.wish.name} is on {self.host}"
        accelerator = {"kvm": "kvm", "qemu": "tcg"}[self.wish.domain]
        if self.domain != self.wish.domain or f"-accel {accelerator}" not in self.command:
            yield f"{self.wish.name} is not run by {accelerator}: {self.domain}"
        if not re.search(rf"{re.escape(self.wish.cpu)}(,(?!aarch64)|\s|$)", self.command):
            yield f"the processor of {self.wish.name} is not `{self.wish.cpu}`"
        if self.machine != self.wish.machine:
            yield f"{self.wish.name} runs as {self.machine}"


class Story:
    """What happens, told line by line with the time."""

    def __init__(self) -> None:
        self.begin = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self.begin

    def __call__(self, line: str) -> None:
        print(f"{self.now:6.1f}  {line}", flush=True)

    def quoted(self, line: str) -> None:
        """A line that another program wrote."""
        self(f"    {line}")


@contextmanager
def folder() -> Iterator[Path]:
    """One that is gone afterwards, and that the services' users may pass through."""
    made = new_root("dzarm")
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def controller(keep: Path | None) -> Iterator[TestCloud]:
    """A cloud on this machine; `keep` is for its logs if anything went wrong."""
    with folder() as root:
        cloud = TestCloud(root)
        try:
            cloud.dozen("up", "--no-first-server")
            yield cloud
        except BaseException:
            if keep:
                shutil.copytree(root / "log", keep / "controller", dirs_exist_ok=True)
            raise
        finally:
            cloud.destroy()


def openstack(cloud: TestCloud, *words: str) -> str:
    return cloud.dozen("openstack", *words).stdout.strip()


def shown(cloud: TestCloud, name: str) -> Mapping[str, str]:
    """A server as the administrator sees it."""
    found: Mapping[str, str] = json.loads(openstack(cloud, "server", "show", name, "-f", "json"))
    return found


def rows(cloud: TestCloud) -> list[dict[str, object]]:
    """What `dozen node list` tells."""
    found: list[dict[str, object]] = json.loads(cloud.dozen("node", "list", "--json").stdout)
    return found


def bring_images(cloud: TestCloud, say: Callable[[str], None]) -> None:
    """`up` has brought the 64-bit one; the other is imported as a person would."""
    with folder() as work:
        cache = disks.CACHE / "images"
        made = tinyimages.Made(
            work, direct.build("aarch64", cache), direct.build("armv7l", cache), Path()
        )
        file = tinyimages.armhf_kernel(made)
        said = cloud.dozen("image", "import", str(file), "--name", ARMHF).stdout
    say(said.strip().splitlines()[-1])


def join_cloud(cloud: TestCloud, board: Board, kind: Kind, story: Story) -> None:
    """The line that `dozen node token` prints, run on the machine."""
    words = cloud.dozen("node", "token").stdout.split()
    story(f"on the machine: {join(words[1:-1])} {words[-1][:12]}...")
    board.follow(story.quoted, "cd", "/work/dozencloud", "&&", *words[1:])
    (row,) = (row for row in rows(cloud) if row["name"] == board.name)
    for line in cloud.dozen("node", "list").stdout.rstrip().splitlines():
        story.quoted(line)
    found = [row[name] for name in ("condition", "kvm", "encapsulation")]
    if found != ["up", kind.kvm, kind.tunnels]:
        raise Problem(f"Condition, KVM and tunnels of the node are not as must be: {found}.")
    status = json.loads(board.ask("cd /work/dozencloud && ./dozen status --json"))
    pss, memory = status["memory_mib"]["control_plane"], board.ask("free -m | awk 'NR == 2'")
    story(f"on the machine: DozenCloud's services {pss:.0f} MiB (PSS) of {memory.split()[1]} MiB")
    if pss > MEMORY:
        raise Problem(f"The services of the node have {pss:.0f} MiB, more than {MEMORY}.")


def virsh(board: Board, words: str) -> str:
    """Asked of the node's own libvirtd."""
    uri = "qemu+unix:///system?socket=/run/dozencloud/libvirt/libvirt-sock"
    return board.ask(f"virsh -c '{uri}' {words}")


def domain_type(board: Board, name: str) -> str:
    """libvirt's type of a server, by its name there: kvm or qemu."""
    (found,) = re.findall(r"<domain type='(\w+)'", virsh(board, f"dumpxml {name}"))
    return str(found)


def vsctl(board: Board, words: str) -> str:
    """What the Open vSwitch of the machine's cloud answers."""
    return board.ask(f"ovs-vsctl --db=unix:/run/dozencloud/openvswitch/db.sock {words}")


def switch(board: Board) -> str:
    """How packets are moved there, and by what they go to the other machines."""
    kind = vsctl(board, "get bridge br-int datapath_type")
    tunnels = vsctl(board, "--bare --columns=type find interface options:key=flow")
    return f"datapath {kind}, tunnels {' '.join(tunnels.split())}"


def create(cloud: TestCloud, wish: Wish, story: Story, host: str = "") -> Mapping[str, str]:
    """The server once it is active. host: it must be there."""
    words = ["server", "create", "--image", wish.image, "--flavor", FLAVOR, "--network", "private"]
    words += ["--key-name", "dozen", "--security-group", "ssh", "--wait", wish.name]
    if host:
        words = ["--os-compute-api-version", "2.74", *words, "--host", host]
    story(f"on the controller: openstack {join(words)}")
    openstack(cloud, *words)
    server = shown(cloud, wish.name)
    story(f"{wish.name} is {server['status']} on {server[HOST]}")
    return server


def keep_on_one_cpu(board: Board, name: str) -> None:
    """Have the domain there use CPU 0 alone; where it moves, too.

    QEMU's emulation of EL2 copies no SPSR when it leaves AArch32 (aarch64_sync_32_to_64 in
    target/arm/helper.c): a 32-bit server that changes its CPU inside an exception loses it.
    """
    virsh(board, f"vcpupin {name} 0 0")


def reach(cloud: TestCloud, wish: Wish, server: Mapping[str, str], story: Story) -> Guest:
    """Give it a floating IP, and wait until it lets us in."""
    ask = ("floating", "ip", "create", "public", "-f", "value", "-c", "floating_ip_address")
    address = openstack(cloud, *ask)
    openstack(cloud, "server", "add", "floating", "ip", wish.name, address)
    eventually(
        lambda: "login:" in openstack(cloud, "console", "log", "show", wish.name),
        seconds=wish.seconds,
        what=f"a prompt on the console of {wish.name}",
        every=5,
    )
    story(f"{wish.name} shows a prompt")
    (fixed,) = json.loads(openstack(cloud, "port", "list", "--server", wish.name, "-f", "json"))
    inside = fixed["Fixed IP Addresses"][0]["ip_address"]
    guest = Guest(server["id"], wish.name, inside, address, cloud.key, patience=wish.patience)
    return guest.wait(wish.patience)


def serve(cloud: TestCloud, board: Board, wish: Wish, story: Story) -> Seen:
    """Create the server, log in, and look at it from all sides."""
    begin = story.now
    # One that is emulated the controller could run, too.
    server = create(cloud, wish, story, NAME if wish.domain == "qemu" else "")
    name = server[INSTANCE]
    keep_on_one_cpu(board, name)
    guest = reach(cloud, wish, server, story)
    said = guest.run(ABOUT)
    up = story.now - begin
    machine, *cpu = said.splitlines()
    story(f"ssh dozen@{guest.floating} uname -m: {machine}")
    for line in cpu:
        story.quoted(line)
    for line in openstack(cloud, "console", "log", "show", wish.name).splitlines():
        if re.search(r"Linux version|CPU: |login:", line):
            story.quoted(line.strip())
    domain = domain_type(board, name)
    story(f"on the machine, virsh dumpxml {name}: <domain type='{domain}'")
    pid = f"/run/dozencloud/libvirt/qemu/{name}.pid"
    command = board.ask(f"tr '\\0' ' ' < /proc/$(cat {pid})/cmdline")
    processor = " ".join(cpu[:1])
    return Seen(wish, server[HOST], domain, machine, processor, guest.floating, up, command)


def play(kind: Kind, uv: str, story: Story, keep: Path | None) -> list[Seen]:
    """The whole, from nothing and back."""
    suite = disks.default_suite()
    if suite not in kind.suites:
        suite = kind.suites[0]
    with folder() as place, ThreadPoolExecutor() as pool:
        made = nodedisks.build(kind.architecture, suite, uv, story)
        with Board(made, kind.host, place, NAME) as board:
            story("the emulated ARM machine is switched on")
            up = pool.submit(board.wait, UP_SECONDS)
            with controller(keep) as cloud:
                story(f"the controller runs: {cloud.cloud.public_url}")
                bring_images(cloud, story)
                up.result()
                story(f"the machine is up: {board.ask('uname -srm')}")
                try:
                    join_cloud(cloud, board, kind, story)
                    story(f"on the machine, the switch: {switch(board)}")
                    seen = [serve(cloud, board, wish, story) for wish in kind.wishes]
                    names = [each.wish.name for each in seen]
                    openstack(cloud, "server", "delete", "--wait", *names)
                    leave(cloud, board, story)
                finally:
                    if keep:
                        keep_logs(board, keep)
    return seen


def leave(cloud: TestCloud, board: Board, story: Story) -> None:
    """The node leaves; nothing of it stays on the machine or in the cloud."""
    story(f"on the machine {board.name}: ./dozen leave")
    board.follow(story.quoted, "cd", "/work/dozencloud", "&&", "./dozen", "leave")
    if any(row["name"] == board.name for row in rows(cloud)):
        raise Problem("The controller still lists the node that left.")


def keep_logs(board: Board, folder: Path) -> None:
    """What the services of the machine logged, and its console."""
    if said := board.ask("tail -n 400 /var/log/dozencloud/*.log || true"):
        (folder / f"{board.name}.log").write_text(said)
    (folder / f"{board.name}-console.log").write_text(board.said(10_000))


def table(seen: Sequence[Seen]) -> Table:
    """One row per server."""
    made = Table("server", "image", "node", "domain", "uname -m", "processor", "up (s)")
    for each in seen:
        made.add_row(
            *(each.wish.name, each.wish.image, each.host, each.domain, each.machine),
            *(each.processor, f"{each.up:.0f}"),
        )
    return made


def tell(tale: Callable[[Story], Sequence[str]], keep: Path | None) -> int:
    """The program's exit code. tale: returns what was not as it must be. keep: made for it."""
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    # All that was made is removed then, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    story = Story()
    try:
        complaints = tale(story)
    except Problem as problem:
        print(f"{problem.what} {problem.mend}\n{problem.detail}\nfailed after {story.now:.0f} s")
        return 1
    for complaint in complaints:
        print(f"WRONG: {complaint}")
    print("failed" if complaints else f"all as it must be, after {story.now:.0f} s")
    return 1 if complaints else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make arm-node", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs there")
    parser.add_argument(
        "--machine", choices=KINDS, default="64-bit", help="what joins (default: 64-bit)"
    )
    parser.add_argument("--short", action="store_true", help="only the 32-bit server")
    given = parser.parse_args()
    kind, keep = KINDS[given.machine], given.keep
    if given.short:
        kind = replace(kind, wishes=kind.wishes[-1:])

    def tale(story: Story) -> list[str]:
        seen = play(kind, find_uv(), story, keep)
        Console(width=120).print(table(seen))
        return [line for each in seen for line in each.complaints()]

    return tell(tale, keep)


if __name__ == "__main__":
    sys.exit(main())
