"""Ordinary calls while 200 slow connections of each kind are held, from one address and from fifty.

    PYTHONPATH=src:tests/e2e python bench/slowclients.py ROOT [SECONDS [KIND ...]]

ROOT: a cloud that runs (dozen --root ROOT up). SECONDS: of each attack, 60. For each kind: median
and 95th percentile of each call, and how many times the quiet one that is; failed calls count 60 s.
"""

from __future__ import annotations

import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from slowpeers import (
    PATIENCE,
    Attack,
    Caller,
    addresses,
    answers,
    attacking,
    bodies,
    downloads,
    handshakes,
    heads,
    idle,
    ordinary,
    p95,
    uploads,
)
from testcloud import Tenant, TestCloud

COUNT = 200
USERS = 10
"""Attackers' accounts, among which transfers are shared."""
LARGE = 32 << 20
"""Bytes of an image that the connection's buffers do not take."""
QUIET = 20.0


def cell(seconds: Sequence[float], quiet: Sequence[float]) -> str:
    middle, late = statistics.median(seconds), p95(seconds)
    failed = sum(value >= PATIENCE for value in seconds)
    if failed:
        return f"{failed} of {len(seconds)} failed"
    times = middle / statistics.median(quiet), late / p95(quiet)
    return f"{middle * 1000:.0f} ({times[0]:.1f}), {late * 1000:.0f} ({times[1]:.1f})"


def row(
    title: str, seconds: Mapping[str, Sequence[float]], quiet: Mapping[str, Sequence[float]]
) -> None:
    cells = (cell(seconds.get(name, [PATIENCE]), values) for name, values in quiet.items())
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def memory(cloud: TestCloud, name: str) -> int:
    """MiB of a service that are resident."""
    status = Path(f"/proc/{cloud.pids()[name]}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def run(cloud: TestCloud, caller: Caller, attacks: Sequence[Attack], seconds: float) -> None:
    print(f"| slow connections | {' | '.join(caller.calls)} |\n|---|{'---|' * len(caller.calls)}")
    quiet = caller.rounds(QUIET)
    row("none", quiet, quiet)
    with addresses(cloud) as sources:
        for attack in attacks:
            for some in (sources[:1], sources):
                with attacking(cloud, attack, COUNT, some):
                    under = caller.rounds(seconds)
                row(f"{attack.kind}, {len(some)}", under, quiet)
                time.sleep(5)


def queued(tenant: Tenant, count: int) -> list[str]:
    """Images that wait for their data."""
    image = tenant.sdk.image
    made = []
    for number in range(count):
        each = image.create_image(
            name=f"slow {number}", disk_format="raw", container_format="bare", allow_duplicates=True
        )
        made.append(each.id)
    tenant.later(lambda: [image.delete_image(each) for each in made])
    return made


def uploaded(tenant: Tenant, size: int) -> str:
    """An image of that many bytes."""
    image = tenant.sdk.image
    made = image.create_image(
        name="slow", disk_format="raw", container_format="bare", data=os.urandom(size)
    )
    tenant.later(lambda: image.delete_image(made))
    return str(made.id)


def main() -> None:
    cloud = TestCloud(Path(sys.argv[1]))
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    chosen = sys.argv[3:]
    people = [cloud.tenant(f"slow-{secrets.token_hex(3)}") for number in range(USERS)]
    ordinary_user = cloud.tenant(f"slow-{secrets.token_hex(3)}")
    try:
        tokens = [each.sdk.auth_token for each in people]
        empty = [
            (image, token)
            for each, token in zip(people, tokens, strict=True)
            for image in queued(each, COUNT // USERS)
        ]
        full = [(uploaded(each, LARGE), token) for each, token in zip(people, tokens, strict=True)]
        small = uploaded(ordinary_user, 1 << 20)
        kinds = {
            "heads": heads(),
            "bodies": bodies(),
            "answers": answers(tokens[0]),
            "downloads": downloads(full),
            "uploads": uploads(empty),
            "idle": idle(),
            "handshakes": handshakes(),
        }
        caller = ordinary(cloud, ordinary_user, small)
        before = {
            name: memory(cloud, name) for name in ("gateway", "keystone", "glance", "neutron")
        }
        run(cloud, caller, [kinds[name] for name in chosen or kinds], seconds)
        for name, mib in before.items():
            print(f"{name}: {mib} MiB before, {memory(cloud, name)} after")
        print(f"load of this machine: {os.getloadavg()[0]:.1f}")
    finally:
        with suppress(subprocess.SubprocessError):
            for each in [*people, ordinary_user]:
                each.clear()


if __name__ == "__main__":
    main()
