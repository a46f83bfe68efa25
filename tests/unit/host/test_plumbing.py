"""Command lines into a cloud's network; its firewall rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dozencloud import facts
from dozencloud.cloud.installation import ETHERNET, Cloud
from dozencloud.cloud.settings import Network, Settings
from dozencloud.facts import Datapath
from dozencloud.host.network.dataplane import encapsulation
from dozencloud.host.network.namespace import (
    ENTER_SCRIPT,
    enter,
    inside,
    ip,
    linked,
    make_namespace,
    mtu_of,
    namespace_exists,
    nft,
    switch_devices,
    within,
)
from dozencloud.host.network.wayout import drop_tables, guard, ruleset

MACHINE = Cloud()
ROOTED = Cloud(Path("/srv/plumbing-test"))
SPACE = str(ROOTED.namespace)
LAN = Network(
    provider_interface="eth0",
    provider_cidr="192.0.2.0/24",
    provider_gateway="192.0.2.1",
    floating_range="192.0.2.200-192.0.2.220",
)
BRIDGED = replace(MACHINE, settings=Settings(network=LAN))


def test_the_machine_s_own_cloud_needs_no_way_in() -> None:
    assert enter(MACHINE, ["a", "b c"]) == ["a", "b c"]
    assert inside(MACHINE, 5, ["a"]) == ["a"]
    assert ip(MACHINE, "link") == ["ip", "link"]
    assert namespace_exists(MACHINE)
    assert linked(MACHINE, floating=True)
    make_namespace(MACHINE, None, floating=True)  # type: ignore[arg-type]  # does nothing
    with within(MACHINE):
        pass


def test_a_cloud_with_a_root_is_entered() -> None:
    assert ip(ROOTED, "link", "show") == ["ip", "-n", SPACE, "link", "show"]
    assert inside(ROOTED, 5, ["a"]) == ["nsenter", "--target=5", "--mount", "--net", "a"]
    words = enter(ROOTED, ["a", "b c; d"])
    assert words[:2] == ["nsenter", f"--net=/run/netns/{SPACE}"]
    assert words[-4:] == [ENTER_SCRIPT, "sh", "a", "b c; d"]


@pytest.mark.parametrize(
    ("settings", "kernel", "geneve", "expected"),
    [
        (Network(), Datapath.SYSTEM, True, "geneve"),
        (Network(), Datapath.SYSTEM, False, "vxlan"),
        (Network(), Datapath.NETDEV, False, "geneve"),
        (Network(datapath="netdev"), Datapath.SYSTEM, False, "geneve"),
        (Network(tunnels="geneve"), Datapath.SYSTEM, False, "geneve"),
        (Network(tunnels="vxlan"), Datapath.NETDEV, True, "vxlan"),
    ],
)
def test_tunnels_are_what_moves_packets_can_receive(
    settings: Network, kernel: Datapath, geneve: bool, expected: str
) -> None:
    found = facts.Network(kernel, geneve, True, True, "", True, "", True, "")
    assert encapsulation(Cloud(settings=Settings(network=settings)), found) == expected


def test_the_script_is_a_shell_s() -> None:
    subprocess.run(["sh", "-n"], input=ENTER_SCRIPT, text=True, check=True)


def test_a_namespace_that_is_not_there() -> None:
    assert not namespace_exists(ROOTED)
    assert not linked(ROOTED, floating=True)
    with pytest.raises(FileNotFoundError), within(ROOTED):
        pass


def test_devices_of_a_switch_that_never_was(tmp_path: Path) -> None:
    assert switch_devices(Cloud(tmp_path)) == []


@pytest.mark.parametrize(
    ("cloud", "near", "sources"),
    [
        (MACHINE, "br-dozen-ex", ["172.24.4.0/24"]),
        (
            replace(MACHINE, settings=Settings(network=Network(provider_cidr="10.9.0.0/16"))),
            "br-dozen-ex",
            ["10.9.0.0/16"],
        ),
        (ROOTED, ROOTED.link_devices[0], [str(ROOTED.provider), f"{ROOTED.link[0]}/30"]),
    ],
)
def test_only_the_cloud_s_own_addresses_are_masked(
    cloud: Cloud, near: str, sources: list[str]
) -> None:
    rules = ruleset(cloud)
    assert f"ip saddr {{ {', '.join(sources)} }}" in rules
    assert f'oifname != {{ "{near}", "lo" }} masquerade' in rules
    # Declared, deleted, declared: the whole table is replaced in one transaction.
    heads = [line.rstrip(" {") for line in rules.splitlines() if "table inet" in line]
    assert heads == [f"{verb}table inet {cloud.table}" for verb in ("", "delete ", "")]


def test_nothing_is_masked_in_the_network_of_a_card() -> None:
    assert "masquerade" not in ruleset(BRIDGED)
    rooted = ruleset(replace(BRIDGED, root=ROOTED.root))
    assert f"ip saddr {{ {ROOTED.link[0]}/30 }}" in rooted


@pytest.mark.functional
@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
@pytest.mark.parametrize("cloud", [MACHINE, ROOTED, BRIDGED], ids=["machine", "rooted", "bridged"])
def test_nft_accepts_the_rules(cloud: Cloud) -> None:
    """In a network namespace of its own: --check needs the kernel, and changes nothing."""
    words = ["unshare", "--net", "nft", "--check", "-f", "-"]
    done = subprocess.run(
        words, input=ruleset(cloud), check=False, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.functional
@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed")
def test_the_rules_replace_themselves(tmp_path: Path) -> None:
    file = tmp_path / "rules"
    file.write_text(ruleset(ROOTED))
    script = 'nft -f "$1" && nft -f "$1" && nft list ruleset'
    words = ["unshare", "--net", "sh", "-c", script, "sh", str(file)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=20)
    assert done.stdout.count("masquerade") == 1


def test_a_machine_without_nft_has_no_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    drop_tables("dozen")


def test_consoles_are_for_root_and_the_console_proxy() -> None:
    rules = guard(MACHINE)
    assert "table inet dozencloud-consoles {" in rules
    assert 'oifname "lo" tcp dport { 20000-20999, 21000-21999, 17776 }' in rules
    assert "meta skuid != { root, dozen-nova } reject" in rules


def test_the_mtu_of_the_device_with_an_address() -> None:
    assert mtu_of("127.0.0.1") == ETHERNET  # loopback's 65536 is more than a wire takes
    assert mtu_of("192.0.2.77") == ETHERNET  # nobody here has it


@pytest.mark.functional
def test_the_mtu_of_a_smaller_device() -> None:
    script = (
        "ip link add small mtu 1400 type dummy || ip link add small mtu 1400 type veth\n"
        "ip address add 192.0.2.77/24 dev small\n"
        'exec "$0" -c "from dozencloud.host.network import namespace;'
        " print(namespace.mtu_of('192.0.2.77'))\""
    )
    words = ["unshare", "--net", "sh", "-c", script, sys.executable]
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True
    )
    assert done.stdout == "1400\n"


@pytest.mark.parametrize("cloud", [MACHINE, ROOTED], ids=["machine", "rooted"])
def test_a_cloud_s_own_processes_are_in_its_network_already(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*cloud.marker.split("=", 1))
    assert ip(cloud, "link") == ["ip", "link"]
    assert nft(cloud, "-f", "-") == ["nft", "-f", "-"]
    monkeypatch.delenv("DOZEN_CLOUD")
    assert (nft(cloud, "-f", "-")[0] == "nsenter") is (cloud is ROOTED)
