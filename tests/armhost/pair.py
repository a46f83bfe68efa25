"""The command: two emulated ARM machines join a cloud of this one, and a server moves between them.

What one machine cannot show: packets from the kernel's switch of one node to that of another, and
a server run by KVM that goes to another KVM while it runs.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import disks
import nodedisks
from board import Board
from node import (
    HOST,
    INSTANCE,
    KINDS,
    UP_SECONDS,
    Story,
    controller,
    create,
    domain_type,
    folder,
    join_cloud,
    keep_logs,
    leave,
    openstack,
    reach,
    shown,
    switch,
    tell,
    vsctl,
)
from run import find_uv
from testcloud import Guest, TestCloud, settle

from dozencloud.errors import Problem

KIND = KINDS["64-bit"]
NAMES = ("arm-one", "arm-two")
WISH = KIND.wishes[0]
BYTES = 1_000_000


def must(true: bool, what: str, found: object) -> None:
    """Raise Problem unless it is so."""
    if not true:
        raise Problem(f"It must be so, and is not: {what}.", detail=str(found))


def neighbours(boards: tuple[Board, Board], servers: list[Guest], story: Story) -> None:
    """Packets of full size, and a stream of bytes, go from the one server to the other."""
    for board, other in zip(boards, reversed(boards), strict=True):
        said = switch(board)
        story(f"on {board.name}, the switch: {said}")
        must("datapath system" in said, "the kernel's switch moves the packets", said)
        tunnels = vsctl(board, "--bare --columns=options find interface type=geneve")
        must(f"remote_ip={other.address}" in tunnels, f"a tunnel to {other.name}", tunnels)
    one, two = servers
    mtu = int(one.run("cat /sys/class/net/eth0/mtu"))
    said = one.run(f"ping -c 5 -s {mtu - 28} {two.fixed}", user="root")
    story(f"{one.name} to {two.name}, {mtu} bytes: {said.splitlines()[-2]}")
    must(" 0% packet loss" in said, "no packet is lost", said)
    there = Guest(two.id, two.name, two.fixed, "", two.key, via=one, patience=two.patience)
    said = there.run(f"yes | head -c {BYTES}")
    must(len(said) == BYTES - 1, "a stream of bytes arrives whole", len(said))
    story(f"{two.name} sent {BYTES} bytes by SSH through {one.name}")


def moves(cloud: TestCloud, boards: tuple[Board, Board], guest: Guest, story: Story) -> None:
    """It goes on running, with its memory, on the other machine's KVM."""
    guest.run("echo kept > /run/kept", user="root")
    before = float(guest.run("cut -d ' ' -f 1 /proc/uptime"))
    story(f"on the controller: dozen node drain {boards[0].name}")
    said = cloud.dozen("node", "drain", boards[0].name).stdout
    for line in said.splitlines():
        story.quoted(line)
    must(f"{guest.name}: went on running" in said, "it is moved while it runs", said)
    server = shown(cloud, guest.name)
    must(server[HOST] == boards[1].name, f"it is on {boards[1].name}", server)
    guest.wait(guest.patience)
    after = float(guest.run("cut -d ' ' -f 1 /proc/uptime"))
    must(after > before, "it went on running", f"up {before} s, then {after} s")
    must(guest.run("cat /run/kept") == "kept", "its memory came with it", "")
    story(f"{guest.name} has been up {before:.0f} s before, and {after:.0f} s after")
    found = domain_type(boards[1], server[INSTANCE])
    must(found == "kvm", "KVM runs it there, too", found)


def play(uv: str, story: Story, keep: Path | None) -> None:
    """The whole, from nothing and back."""
    made = nodedisks.build(KIND.architecture, disks.default_suite(), uv, story)
    with ExitStack() as stack:
        places = [stack.enter_context(folder()) for _ in NAMES]
        one, two = (
            stack.enter_context(Board(made, KIND.host, place, name))
            for place, name in zip(places, NAMES, strict=True)
        )
        story("two emulated ARM machines are switched on")
        pool = stack.enter_context(ThreadPoolExecutor())
        up = [pool.submit(board.wait, UP_SECONDS) for board in (one, two)]
        cloud = stack.enter_context(controller(keep))
        settle(cloud, "migration = true", "--no-first-server")
        story(f"the controller runs: {cloud.cloud.public_url}")
        for board, waited in zip((one, two), up, strict=True):
            waited.result()
            if keep:
                stack.callback(keep_logs, board, keep)
            join_cloud(cloud, board, KIND, story)
        servers = []
        for name, board in (("moves", one), ("stays", two)):
            wish = replace(WISH, name=name)
            servers.append(reach(cloud, wish, create(cloud, wish, story, board.name), story))
        neighbours((one, two), servers, story)
        moves(cloud, (one, two), servers[0], story)
        openstack(cloud, "server", "delete", "--wait", *(guest.name for guest in servers))
        for board in (one, two):
            leave(cloud, board, story)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make arm-pair", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs there")
    keep: Path | None = parser.parse_args().keep

    def tale(story: Story) -> tuple[str, ...]:
        play(find_uv(), story, keep)
        return ()

    return tell(tale, keep)


if __name__ == "__main__":
    sys.exit(main())
