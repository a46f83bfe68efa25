"""The command: two emulated ARM machines join a cloud of this one, and servers move between them.

What one machine cannot show: packets from the kernel's switch of one node to that of another, and
a server run by KVM that goes to another KVM while it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
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
    bring_images,
    controller,
    create,
    domain_type,
    folder,
    join_cloud,
    keep_logs,
    keep_on_one_cpu,
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
    said = two.inside(one).run(f"yes | head -c {BYTES}")
    must(len(said) == BYTES - 1, "a stream of bytes arrives whole", len(said))
    story(f"{two.name} sent {BYTES} bytes by SSH through {one.name}")


def drain(
    cloud: TestCloud, source: Board, target: Board, guests: Sequence[Guest], story: Story
) -> None:
    """They go on running, with their memory, on the other machine's KVM."""
    before = []
    for guest in guests:
        guest.run(f"echo {source.name} > /run/kept", user="root")
        before.append(guest.uptime())
    story(f"on the controller: dozen node drain {source.name}")
    said = cloud.dozen("node", "drain", source.name, timeout=600).stdout
    for line in said.splitlines():
        story.quoted(line)
    for guest, then in zip(guests, before, strict=True):
        must(f"{guest.name}: went on running" in said, "it is moved while it runs", said)
        server = shown(cloud, guest.name)
        must(server[HOST] == target.name, f"it is on {target.name}", server)
        guest.wait(guest.patience)
        now = guest.uptime()
        must(now > then, "it went on running", f"up {then} s, then {now} s")
        must(guest.run("cat /run/kept") == source.name, "its memory came with it", "")
        found = domain_type(target, server[INSTANCE])
        must(found == "kvm", "KVM runs it there, too", found)
        story(f"{guest.name}: up {then:.0f} s before, {now:.0f} s after; <domain type='{found}'")
    cloud.dozen("node", "undrain", source.name)


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
        bring_images(cloud, story)
        for board, waited in zip((one, two), up, strict=True):
            waited.result()
            if keep:
                stack.callback(keep_logs, board, keep)
            join_cloud(cloud, board, KIND, story)
        servers = []
        for wish, board in zip(KIND.wishes, (one, two), strict=True):
            server = create(cloud, wish, story, board.name)
            keep_on_one_cpu(board, server[INSTANCE])
            servers.append(reach(cloud, wish, server, story))
        neighbours((one, two), servers, story)
        drain(cloud, one, two, servers[:1], story)
        drain(cloud, two, one, servers, story)
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
