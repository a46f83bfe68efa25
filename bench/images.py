"""Times the inspection and the import of a 2 GiB image: python bench/images.py ROOT.

ROOT: a cloud that runs (dozen --root ROOT up). The import is measured against `image create` of
the OpenStack client with the same file, three times each, in turn.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dozencloud.cloud.installation import load
from dozencloud.images.inspection.confine import inspect_file
from dozencloud.images.tiny import uefi

SIZE = 2 << 30


def make(folder: Path, cache: Path) -> Path:
    """The tiny UEFI disk with 2 GiB of random bytes behind its partitions, as qcow2."""
    raw, target = folder / "disk.raw", folder / "disk.qcow2"
    small = uefi.build(cache).disk
    subprocess.run(["qemu-img", "convert", "-O", "raw", small, raw], check=True)
    with raw.open("ab") as out, Path("/dev/urandom").open("rb") as noise:
        for _ in range(SIZE >> 20):
            out.write(noise.read(1 << 20))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, target], check=True)
    raw.unlink()
    return target


def timed(*words: str | Path) -> float:
    begun = time.monotonic()
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
    return time.monotonic() - begun


def main() -> None:
    root = Path(sys.argv[1])
    cloud = load(root)
    dozen = [sys.executable, "-m", "dozencloud", "--root", str(root)]
    with tempfile.TemporaryDirectory(dir=root) as folder:
        image = make(Path(folder), cloud.cache)
        times = []
        for _ in range(6):
            begun = time.monotonic()
            inspect_file(image)
            times.append(time.monotonic() - begun)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(
            f"inspection of {image.stat().st_size >> 20} MiB: {min(times):.2f} s best, "
            f"{statistics.median(times[1:]):.2f} s median warm; {peak:.0f} MiB at most"
        )
        ours, theirs = [], []
        upload = ["openstack", "image", "create", "--disk-format", "qcow2", "--file"]
        for number in range(3):
            ours.append(timed(*dozen, "image", "import", image, "--name", f"bench-a{number}"))
            theirs.append(timed(*dozen, *upload, image, f"bench-b{number}"))
            for name in (f"bench-a{number}", f"bench-b{number}"):
                timed(*dozen, "openstack", "image", "delete", name)
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"import {a:.1f} s, openstack image create {b:.1f} s: {a / b:.2f} times (limit 1.2)")


if __name__ == "__main__":
    main()
