"""Firewalls that drop what passes through the machine are found, as the programs show them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from dozencloud.facts.forwarding import Wall, legacy_walls

LEGACY = """\
-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -i br-dozen-ex -j ACCEPT
-A DOCKER-USER -o br-+ -j ACCEPT
-A FORWARD ! -i docker0 -o docker0 -j DROP
-A FORWARD ! -i docker1 -j ACCEPT
"""


def test_what_the_older_iptables_shows() -> None:
    (wall,) = legacy_walls(LEGACY)
    assert (wall.program, wall.chain) == ("iptables-legacy", "DOCKER-USER")
    assert (wall.inward, wall.outward) == ({"br-dozen-ex"}, {"br-*"})
    assert wall.lets("br-dozen-ex")
    assert not wall.lets("br-other")
    assert legacy_walls(LEGACY.replace("FORWARD DROP", "FORWARD ACCEPT")) == []


CHAIN = "forward {{ type filter hook forward priority 0; policy {}; }}"
MADE = {
    "nothing": "true",
    "docker": """
        iptables-nft -P FORWARD DROP
        iptables-nft -N DOCKER-USER
        iptables-nft -A FORWARD -j DOCKER-USER
        iptables-nft -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
        iptables-nft -I DOCKER-USER -i br-dozen-ex -j ACCEPT
    """,
    "nft": f"""
        nft 'add table inet fw; add chain inet fw {CHAIN.format("drop")}'
        nft 'add rule inet fw forward iifname {{ "br-dozen-ex", "eth1" }} accept'
        nft 'add rule inet fw forward oifname "br-dozen-ex" accept'
    """,
    "another-family": f"nft 'add table ip6 fw; add chain ip6 fw {CHAIN.format('drop')}'",
    "accept": f"nft 'add table ip fw; add chain ip fw {CHAIN.format('accept')}'",
}
# The chains that matter here, of those that firewalld 1.3.3 makes.
FIREWALLD = """
table inet firewalld {
    chain filter_FWD_public { reject with icmpx admin-prohibited; }
    chain filter_FWD_trusted { accept; }
    chain filter_FWD_policy_dozencloud { accept; }
    chain filter_FORWARD_POLICIES_pre { oifname "br-dozen-ex" jump filter_FWD_policy_dozencloud; }
    chain filter_FORWARD_ZONES {
        iifname "br-dozen-ex" goto filter_FWD_trusted
        iifname "eth0" goto filter_FWD_public
        goto filter_FWD_public
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_IN_public_allow {
        tcp dport 22 accept
        tcp dport 8000-8100 accept
        ip6 daddr fe80::/64 udp dport 546 accept
    }
    chain filter_IN_public { jump filter_IN_public_allow; }
    chain filter_IN_trusted { accept; }
    chain filter_INPUT_ZONES {
        iifname "br-dozen-ex" goto filter_IN_trusted
        goto filter_IN_public
    }
}
"""
MADE["firewalld"] = f"nft -f - <<'end'\n{FIREWALLD}\nend"
ENTRANCE = """
import json
from dozencloud.facts.firewalld import entrance
found = entrance()
print(json.dumps(found and [sorted(found.ports), sorted(found.trusted)]))
"""
LOOK = """
import json
from dozencloud.facts.forwarding import walls
print(json.dumps([[w.program, w.chain, sorted(w.inward), sorted(w.outward)] for w in walls()]))
"""


@pytest.mark.functional
@pytest.mark.skipif(not shutil.which("iptables-nft"), reason="iptables is not installed")
@pytest.mark.parametrize(
    ("made", "found"),
    [
        ("nothing", []),
        ("docker", [["iptables", "DOCKER-USER", ["br-dozen-ex", "docker0"], []]]),
        ("nft", [["nft", "inet fw forward", ["br-dozen-ex", "eth1"], ["br-dozen-ex"]]]),
        ("another-family", []),
        ("firewalld", [["firewall-cmd", "filter_FORWARD", ["br-dozen-ex"], ["br-dozen-ex"]]]),
        ("accept", []),
    ],
)
def test_what_the_kernel_has(made: str, found: list[object]) -> None:
    assert looked(made, LOOK) == found


@pytest.mark.functional
@pytest.mark.parametrize(
    ("made", "found"),
    [
        ("nothing", None),
        ("nft", None),
        ("firewalld", [[[22, 22], [8000, 8100]], ["br-dozen-ex"]]),
    ],
)
def test_what_firewalld_lets_in(made: str, found: object) -> None:
    assert looked(made, ENTRANCE) == found


def looked(made: str, look: str) -> object:
    """In a network namespace of its own."""
    script = f'set -e\n{MADE[made]}\nexec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, sys.executable, look],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return json.loads(done.stdout)


def test_a_star_stands_for_what_begins_so() -> None:
    wall = Wall("nft", "inet fw forward", frozenset({"br-*"}), frozenset({"br-*"}))
    assert wall.lets("br-dozen-ex")
    assert not wall.lets("dozen-tk")
