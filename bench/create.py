"""From the request for a server to its login prompt, next to `virsh start`, for each boot method.

    PYTHONPATH=src:tests/e2e python bench/create.py ROOT

ROOT: a cloud that runs (dozen --root ROOT up). Each kind of server is made three times through the
API; each time its domain is then stopped, and started again by virsh, as plain as it gets.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from testcloud import Tenant, TestCloud
from tinyimages import Made, arm64_kernel, arm64_uefi, armhf_kernel, armhf_uefi

from dozencloud.images.tiny import direct, uefi

KINDS: dict[str, Callable[[Made], Path]] = {
    "AArch64 by kernel": arm64_kernel,
    "AArch64 by UEFI": arm64_uefi,
    "ARMv7 by kernel": armhf_kernel,
    "ARMv7 by UEFI": armhf_uefi,
}
ROUNDS = 3
FLAVOR = "m1.micro"
PROMPT = b"login:"
SECONDS = 180
"""A prompt that does not come by then does not come."""


def until_prompt(begun: float, console: Path) -> float:
    """Seconds from then until the console shows the prompt."""
    while not console.exists() or PROMPT not in console.read_bytes():
        if time.monotonic() - begun > SECONDS:
            raise SystemExit(f"No login prompt within {SECONDS} s: {console}")
        time.sleep(0.05)
    return time.monotonic() - begun


def measure(cloud: TestCloud, tenant: Tenant, image: str) -> tuple[float, float]:
    """Seconds to the prompt of one server: through the API, and of its domain by virsh."""

    def virsh(command: str) -> None:
        words = ["virsh", f"--connect={cloud.cloud.libvirt_uri}", command, server.id]
        subprocess.run(words, check=True, capture_output=True)

    network = cloud.sdk.network.find_network("private")
    begun = time.monotonic()
    server = tenant.create("bench", network, image_id=image, flavor=FLAVOR)
    console = cloud.cloud.lib / "compute/instances" / server.id / "console.log"
    created = until_prompt(begun, console)
    virsh("destroy")
    begun = time.monotonic()
    virsh("start")  # begins the console log anew
    return created, until_prompt(begun, console)


def main() -> None:
    cloud = TestCloud(Path(sys.argv[1]))
    cache = cloud.cloud.cache
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        images = direct.build("aarch64", cache), direct.build("armv7l", cache)
        made = Made(Path(folder), *images, uefi.build(cache).disk)
        for kind, make in KINDS.items():
            cloud.dozen("image", "import", str(make(made)), "--name", f"bench {kind}")
    print("| server | create | virsh start | ratio | more |\n|---|---|---|---|---|")
    for kind in KINDS:
        image = cloud.sdk.image.find_image(f"bench {kind}").id
        rounds = []
        for _ in range(ROUNDS):
            tenant = cloud.admin()
            try:
                rounds.append(measure(cloud, tenant, image))
            finally:
                tenant.clear()
        create, start = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"| {kind} | {create:.1f} s | {start:.1f} s "
            f"| {create / start:.2f} | {create - start:.1f} s |",
            flush=True,
        )
    for image in list(cloud.sdk.image.images()):
        if image.name.startswith("bench "):  # with their kernels and initrds
            cloud.sdk.image.delete_image(image)
    print(f"load of this machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
