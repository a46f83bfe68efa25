"""Times the image `tiny`: cold build, cached build, boot to the login prompt under TCG.

    python bench/tiny_image.py [--architecture aarch64] [--boots 5]

Cold means an empty cache; the mirror's own cache may be warm. A boot starts with the QEMU process
and ends with `login: ` on the console; state disk and network are there, no config drive.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from dozencloud.images.tiny import direct

MACHINES = {
    "aarch64": ("qemu-system-aarch64", "cortex-a57"),
    "armv7l": ("qemu-system-arm", "cortex-a15"),
}
SECONDS_FOR_A_BOOT = 120


def boot(image: direct.TinyImage, disk: Path) -> float:
    """Seconds to the login prompt, from a fresh state disk."""
    program, cpu = MACHINES[image.architecture]
    shutil.copyfile(image.disk, disk)
    command = [
        *(program, "-M", "virt", "-cpu", cpu, "-m", "256", "-display", "none", "-nodefaults"),
        *("-serial", "stdio", "-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", image.command_line, "-netdev", "user,id=net"),
        *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-blk-pci,drive=disk"),
        *("-drive", f"if=none,id=disk,format=qcow2,file={disk}"),
    ]
    started = time.monotonic()
    output, theirs = os.pipe()
    guest = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs)
    os.close(theirs)
    console = b""
    try:
        while b"login: " not in console:
            data = os.read(output, 65536)
            if not data or time.monotonic() - started > SECONDS_FOR_A_BOOT:
                raise SystemExit("no login prompt:\n" + console[-2000:].decode(errors="replace"))
            console += data
        return time.monotonic() - started
    finally:
        guest.kill()
        guest.wait()
        os.close(output)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--architecture", choices=MACHINES, action="append")
    options.add_argument("--boots", type=int, default=5)
    chosen = options.parse_args()
    for architecture in chosen.architecture or MACHINES:
        with tempfile.TemporaryDirectory(prefix="tiny-bench-") as folder:
            seconds = []
            for _ in range(2):
                started = time.monotonic()
                image = direct.build(architecture, Path(folder) / "cache")
                seconds.append(time.monotonic() - started)
            print(
                f"{architecture}: cold build {seconds[0]:.1f} s, cached {seconds[1] * 1e3:.1f} ms"
            )
            for path in (image.kernel, image.initrd, image.disk):
                print(f"{architecture}: {path.name} {path.stat().st_size / 2**20:.1f} MiB")
            boots = sorted(boot(image, Path(folder) / "disk") for _ in range(chosen.boots))
            print(
                f"{architecture}: login after {boots[0]:.1f} s at best,"
                f" {boots[len(boots) // 2]:.1f} s in the middle, of {len(boots)}"
            )


if __name__ == "__main__":
    main()
