"""A network card becomes a port of a bridge and is given back, and connections over it go on.

Each machine is a network namespace; what is at the other end of its card's cable, another one.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from nodekit import CENTRE, CHASSIS, STEP, Machine, controller_plan, machine

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.settings import Network, Settings
from dozencloud.errors import Problem
from dozencloud.host.network import namespace, switching, uplink
from dozencloud.lifecycle import stop
from dozencloud.verdicts import Level

pytestmark = [pytest.mark.functional, pytest.mark.timeout(120)]

ROUTER, PEER, OWN, FLOATING = "203.0.113.1", "203.0.113.2", "203.0.113.10", "203.0.113.201"
PORT = 2222
LAN = Network(
    provider_interface="eth0",
    provider_cidr="203.0.113.0/24",
    provider_gateway=ROUTER,
    floating_range="203.0.113.200-203.0.113.220",
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

SERVE = f"""
import socket
with socket.create_server(("{OWN}", {PORT})) as server:
    print("ready", flush=True)
    there = server.accept()[0]
    there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := there.recv(65536):
        there.sendall(data)
"""
# Each number is sent when the one before it has come back.
TALK = f"""
import select, socket, sys, time
with socket.create_connection(("{OWN}", {PORT}), timeout=30) as there:
    there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print("ready", flush=True)
    number, longest = 0, 0.0
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        began = time.monotonic()
        there.sendall(number.to_bytes(8))
        back = b""
        while len(back) < 8:
            data = there.recv(8 - len(back))
            assert data, "the connection ended"
            back += data
        assert int.from_bytes(back) == number
        number += 1
        longest = max(longest, time.monotonic() - began)
print(number, longest, flush=True)
"""


def run(space: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["nsenter", f"--net=/run/netns/{space}", *words]
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60)


@contextmanager
def cable(space: str, lan: str) -> Iterator[None]:
    """A card `eth0` in `space`, with a router and a peer at the other end, in `lan`."""
    subprocess.run(["ip", "netns", "add", lan], check=True)
    try:
        link = ("link", "add", "eth0", "address", "02:00:5e:00:00:10", "type", "veth")
        run(space, "ip", *link, "peer", "name", "wire", "netns", lan)
        # What a real wire brings has its checksum.
        run(lan, "ethtool", "-K", "wire", "tx", "off")
        for address in (ROUTER, PEER):
            run(lan, "ip", "address", "add", f"{address}/24", "dev", "wire")
        run(lan, "ip", "link", "set", "wire", "up")
        run(lan, "ip", "link", "set", "lo", "up")
        for words in (
            f"address add {OWN}/24 broadcast + dev eth0",
            "address add 203.0.113.11/24 dev eth0 label eth0:1",
            "address add 2001:db8::10/64 dev eth0 nodad",
            "link set eth0 mtu 1400 up",
            "link set lo up",
            f"route add 198.51.100.0/24 via {ROUTER} dev eth0 proto static metric 5 src {OWN}",
            f"route add 10.99.0.0/24 via {PEER} dev eth0 mtu 1300 table 77",
            "-6 route add 2001:db8:1::/48 via 2001:db8::1 dev eth0 metric 9",
        ):
            run(space, "ip", *words.split())
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", lan], check=False)


@contextmanager
def talk(space: str, lan: str) -> Iterator[list[float]]:
    """A session from the peer to the machine, in use all the time; then its longest pause, in s."""
    enter = ["nsenter", "--net=/run/netns/{}", sys.executable, "-c"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pauses: list[float] = []
    with ExitStack() as stack:
        sides = []
        for name, script in ((space, SERVE), (lan, TALK)):
            words = [word.format(name) if "{}" in word else word for word in enter]
            side = stack.enter_context(subprocess.Popen([*words, script], **pipes))  # type: ignore[call-overload]
            stack.callback(side.kill)
            assert side.stdout.readline() == "ready\n"
            sides.append(side)
        time.sleep(0.1)
        yield pauses
        said, _ = sides[1].communicate("\n", timeout=40)
        number, longest = said.split()
        assert int(number) > 20
        pauses.append(float(longest))


@dataclass
class Box:
    """A machine with nothing but a card."""

    space: str
    lan: str
    folder: Path
    bridge: str = "br-test-lan"

    @property
    def record(self) -> Path:
        return self.folder / "card.json"

    def command(self, *words: str) -> list[str]:
        program = [sys.executable, "-P", "-m", "dozencloud.host.network.cardmove"]
        where = f"--net=/run/netns/{self.space}"
        return ["nsenter", where, *program, *words, self.bridge, str(self.record)]

    def move(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            check=False,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def shown(self, device: str) -> tuple[object, ...]:
        """What can be seen of a device, without numbers that change."""
        (link,) = json.loads(run(self.space, "ip", "-j", "-d", "address", "show", device).stdout)
        addresses = [
            {k: v for k, v in info.items() if "life_time" not in k}
            for info in link["addr_info"]
            if info["scope"] != "link"
        ]
        routes = [
            run(self.space, "ip", family, "route", "show", "table", table, "dev", device).stdout
            # A link-local address comes into the local table a second after the device is up.
            for family, table in (("-4", "all"), ("-6", "main"))
        ]
        return link["address"], link["mtu"], link.get("master"), addresses, routes

    def bridged(self) -> bool:
        return run(self.space, "ip", "link", "show", self.bridge, check=False).returncode == 0


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box("dozen-test-box", "dozen-test-lan", tmp_path)
    subprocess.run(["ip", "netns", "add", box.space], check=True)
    try:
        with cable(box.space, box.lan):
            yield box
    finally:
        subprocess.run(["ip", "netns", "delete", box.space], check=False)


def test_a_session_goes_on_while_the_card_is_taken_and_given_back(box: Box) -> None:
    before = box.shown("eth0")
    with talk(box.space, box.lan) as pauses:
        taken = box.move("take", "eth0")
        assert taken.returncode == 0, taken.stderr
        mac, mtu, master, addresses, routes = box.shown(box.bridge)
        assert box.shown("eth0")[2:4] == (box.bridge, [])
        assert (mac, mtu, master) == (before[0], before[1], None)
        there = {info["local"] for info in addresses}  # type: ignore[attr-defined]
        assert there == {OWN, "203.0.113.11", "2001:db8::10"}
        assert f"198.51.100.0/24 via {ROUTER} proto static src {OWN} metric 5" in routes[0]  # type: ignore[index]
        assert f"10.99.0.0/24 via {PEER} table 77 mtu 1300" in routes[0]  # type: ignore[index]
        assert "2001:db8:1::/48 via 2001:db8::1 metric 9" in routes[1]  # type: ignore[index]
        given = box.move("give")
        assert given.returncode == 0, given.stderr
    assert pauses[0] < 3
    assert box.shown("eth0") == before
    assert not box.bridged()
    assert not box.record.exists()


DROP = """
table bridge silent {
  chain input { type filter hook input priority 0; policy drop; }
}
"""


def test_all_is_put_back_when_nobody_answers_any_more(box: Box) -> None:
    before = box.shown("eth0")
    rules = ["nsenter", f"--net=/run/netns/{box.space}", "nft", "-f", "-"]
    subprocess.run(rules, input=DROP, check=True, text=True)
    script = "import sys; from dozencloud.host.network import cardmove; cardmove.PATIENCE = 0.5\n"
    script += "sys.exit(cardmove.main(sys.argv[1:]))"
    words = ["-c", script, "take", "eth0", box.bridge, str(box.record)]
    done = run(
        box.space,
        "env",
        f"PYTHONPATH={ENVIRONMENT['PYTHONPATH']}",
        sys.executable,
        *words,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"eth0 was put back as it was: while it was a port of {box.bridge}, {ROUTER}, {PEER} "
        "did not answer any more within 0.5 s\n"
    )
    assert box.shown("eth0") == before
    assert not box.bridged()


def test_it_goes_on_when_whoever_called_it_is_killed(box: Box) -> None:
    with talk(box.space, box.lan):
        caller = subprocess.Popen(
            box.command("take", "eth0"), env=ENVIRONMENT, start_new_session=True
        )
        # Its group and its session are gone then, as with a terminal.
        STEP.until(box.record.exists, seconds=20, every=0.01, what="The record")
        os.killpg(caller.pid, signal.SIGKILL)
        assert caller.wait() == -signal.SIGKILL
        # It waits for the one that goes on.
        again = box.move("give")
        assert again.returncode == 0, again.stderr
    assert not box.bridged()


def test_after_a_reboot_the_card_is_taken_anew(box: Box) -> None:
    before = box.shown("eth0")
    assert box.move("take", "eth0").returncode == 0
    # What a reboot leaves is the record; the system has set up the card again.
    run(box.space, "ip", "link", "delete", box.bridge)
    run(box.space, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
    run(box.space, "ip", "link", "set", "eth0", "mtu", "1380")
    run(box.space, "ip", "address", "add", f"{OWN}/24", "dev", "eth0")
    again = box.move("take", "eth0")
    assert again.returncode == 0, again.stderr
    assert box.move("give").returncode == 0
    mac, mtu, _, addresses, _ = box.shown("eth0")
    assert (mac, mtu) == (before[0], 1380)
    assert [info["local"] for info in addresses] == [OWN]  # type: ignore[attr-defined]
    box.record.touch()  # one that nobody needs any more
    assert box.move("give").returncode == 0
    assert not box.record.exists()


KILLED = """
import os, signal, sys
from dozencloud.host.network import cardmove
left, whole = int(sys.argv.pop(1)), cardmove.batch
def batch(lines, force=False):
    global left
    for line in lines:
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        whole([line], force=force)
cardmove.batch = batch
sys.exit(cardmove.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("order", ["take", "give"])
def test_killed_after_any_command_it_can_be_put_back(box: Box, order: str) -> None:
    before = box.shown("eth0")
    for number in range(0, 50, 2):  # each second one, for time
        if order == "give":
            assert box.move("take", "eth0").returncode == 0
        card = ["eth0"] if order == "take" else []
        words = [KILLED, str(number), order, *card, box.bridge, str(box.record)]
        path = f"PYTHONPATH={ENVIRONMENT['PYTHONPATH']}"
        done = run(box.space, "env", path, sys.executable, "-c", *words, check=False)
        if done.returncode == 0:
            break
        assert box.record.exists()
        given = box.move("give")
        assert given.returncode == 0, given.stderr
        assert box.shown("eth0") == before, f"killed after command {number}"
        assert not box.bridged()
    assert number > 8
    box.move("give")


def test_a_bridge_that_is_there_already_is_only_linked(tmp_path: Path) -> None:
    wished = replace(LAN, provider_interface="br0")
    cloud = Cloud(tmp_path, Settings(network=wished))
    for folder in cloud.folders:
        folder.mkdir()
    namespace.make_namespace(cloud, STEP, floating=True)
    space, lan = str(cloud.namespace), "dozen-test-lan"
    try:
        with cable(space, lan):
            run(space, "ip", "address", "flush", "dev", "eth0")
            for words in (
                "link add br0 type bridge",
                "link set eth0 master br0",
                "link set br0 up",
                f"address add {OWN}/24 dev br0 valid_lft 600 preferred_lft 600",  # as by DHCP
            ):
                run(space, "ip", *words.split())
            before = run(space, "ip", "-br", "address").stdout
            with pytest.raises(Problem, match="eth0 is a part of br0 already") as refused:
                other = replace(cloud, settings=Settings(network=LAN))
                uplink.connect(other, STEP)
            assert "name that in network.provider_interface" in refused.value.mend
            uplink.connect(cloud, STEP)
            assert uplink.in_place(cloud)
            assert not uplink.record(cloud).exists()
            assert uplink.remove(cloud) == ""
            assert run(space, "ip", "-br", "address").stdout == before
    finally:
        namespace.remove_devices(cloud, [])


# ---- a whole switch -----------------------------------------------------------------------


@dataclass
class Site:
    """A controller whose card leads to `lan`, with one server behind a floating IP."""

    machine: Machine
    lan: str

    @property
    def cloud(self) -> Cloud:
        return self.machine.cloud

    @property
    def space(self) -> str:
        return str(self.cloud.namespace)

    def reaches(self, *words: str) -> bool:
        ping = ("ping", "-c", "1", "-W", "1", *words, FLOATING)
        return run(self.lan, *ping, check=False).returncode == 0


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The card is not taken yet; nothing runs."""
    lan = "dozen-test-lan"
    with tempfile.TemporaryDirectory(prefix="dzu", dir="/var/tmp") as folder, ExitStack() as stack:
        base = Path(folder)
        base.chmod(0o755)
        plan = controller_plan(base / "c")
        plan = replace(plan, cloud=replace(plan.cloud, settings=Settings(network=LAN)))
        made = machine(plan, [make(plan) for make in (*CENTRE, *CHASSIS)])
        site = Site(stack.enter_context(made), lan)
        stack.enter_context(cable(site.space, lan))
        yield site


def test_what_is_wrong_with_a_card_is_said(site: Site) -> None:
    found = uplink.look(site.cloud, "eth0")
    assert uplink.judge(found, site.cloud).level is Level.NOTE
    assert found
    assert (found.kind, found.addresses) == ("veth", (f"{OWN}/24", "203.0.113.11/24"))
    assert uplink.look(site.cloud, "eth7") is None


def test_a_floating_ip_answers_in_the_network_of_the_card(site: Site) -> None:
    with talk(site.space, site.lan) as pauses:
        assert not uplink.in_place(site.cloud)
        uplink.connect(site.cloud, STEP)
        assert uplink.in_place(site.cloud)
        site.machine.start()
        _server(site)
        STEP.until(site.reaches, seconds=30, what="The floating IP")
        ping = ("ping", "-c", "1", "-W", "2", FLOATING)
        STEP.until(
            lambda: run(site.space, *ping, check=False).returncode == 0,
            seconds=20,
            what="The way from this machine, by its own address there",
        )
        # So does the machine outside of the namespace that stands for one here.
        STEP.until(
            lambda: subprocess.run(ping, check=False, capture_output=True).returncode == 0,
            seconds=20,
            what="The way from outside of the namespace",
        )
    assert pauses[0] < 5


def _server(site: Site) -> None:
    """A router with a floating IP, and a namespace as the server behind it."""
    nbctl = ["ovn-nbctl", f"--db=unix:{site.cloud.run}/ovn/nb.sock", "--timeout=20"]
    orders = """
        ls-add net -- lsp-add net a -- lsp-set-addresses a '02:00:00:00:00:01 10.0.0.5'
        ls-add public -- lsp-add public out -- lsp-set-type out localnet
        lsp-set-addresses out unknown -- lsp-set-options out network_name=public
        lr-add r -- lrp-add r r-net 02:00:00:00:01:01 10.0.0.1/24
        lrp-add r r-out 02:00:00:00:01:02 203.0.113.200/24
        lrp-set-gateway-chassis r-out chassis-controller
        lsp-add net net-r -- lsp-set-type net-r router -- lsp-set-addresses net-r router
        lsp-set-options net-r router-port=r-net
        lsp-add public public-r -- lsp-set-type public-r router -- lsp-set-addresses public-r router
        lsp-set-options public-r router-port=r-out
    """
    words: list[str] = []
    for line in orders.split("\n"):
        words += ["--", *shlex.split(line)] if line.strip() else []
    words += ["--", "lr-nat-add", "r", "dnat_and_snat", FLOATING, "10.0.0.5"]
    site.machine.run(*nbctl, *words)
    for line in (
        "ip netns add a",
        "ip link add a-o type veth peer name eth0 netns a address 02:00:00:00:00:01 mtu 1300",
        "ip link set a-o up",
        "ip -n a address add 10.0.0.5/24 dev eth0",
        "ip -n a link set eth0 up",
        "ip -n a route add default via 10.0.0.1",
        "ip netns exec a ethtool -K eth0 tx off",
    ):
        site.machine.run(*line.split())
    port = ("add-port", "br-int", "a-o", "--", "set", "interface", "a-o")
    site.machine.run(*switching.vsctl(site.cloud, *port, "external-ids:iface-id=a"))


def test_a_session_goes_on_when_the_switch_dies(site: Site) -> None:
    supervisor = site.machine.supervisor
    before = supervisor.process("ovs-switch").pid
    with talk(site.space, site.lan) as pauses:
        os.kill(before, signal.SIGKILL)

        def back() -> bool:
            return supervisor.process("ovs-switch").pid not in (0, before)

        STEP.until(back, seconds=20, what="The switch")
        STEP.until(site.reaches, seconds=30, what="The floating IP")
    assert pauses[0] < 1


def test_a_long_transfer_passes_to_and_from_the_floating_ip(site: Site) -> None:
    pid = site.machine.supervisor.pid()
    assert pid
    inside = ["nsenter", f"--target={pid}", "--mount", "--net", "ip", "netns", "exec", "a"]
    words = [*inside, sys.executable, "-c", ECHO]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        sent = run(site.lan, sys.executable, "-c", SEND)
    assert sent.stdout == "4000000\n"


ECHO = """
import socket
with socket.create_server(("10.0.0.5", 5000)) as server:
    print("ready", flush=True)
    there = server.accept()[0]
    there.settimeout(20)
    whole = b"".join(iter(lambda: there.recv(65536), b""))
    there.sendall(whole)
    there.close()
"""
SEND = f"""
import socket
with socket.create_connection(("{FLOATING}", 5000), timeout=20) as there:
    there.sendall(bytes(4_000_000))
    there.shutdown(socket.SHUT_WR)
    print(sum(map(len, iter(lambda: there.recv(65536), b""))))
"""


def test_a_session_goes_on_when_the_services_stop_and_the_card_is_given_back(site: Site) -> None:
    with talk(site.space, site.lan) as pauses:
        stop.stop_services(site.cloud)
        assert uplink.in_place(site.cloud)
        assert uplink.remove(site.cloud) == ""
        assert uplink.look(site.cloud, uplink.bridge(site.cloud)) is None
        found = uplink.look(site.cloud, "eth0")
        assert found
        assert (found.master, found.addresses) == ("", (f"{OWN}/24", "203.0.113.11/24"))
    assert pauses[0] < 3
