"""Real kernels: what is told of them, and that QEMU starts what is made of a compressed one."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dozencloud.images.inspection import artefacts
from dozencloud.images.inspection.assemble import inspect
from dozencloud.images.inspection.formats import open_image
from dozencloud.images.inspection.model import Arch, Boot, Inspection, KernelKind
from dozencloud.images.tiny import direct
from dozencloud.images.tiny.direct import TinyImage

pytestmark = pytest.mark.functional

SECONDS = 120


@pytest.fixture(scope="module")
def image(cache: Path) -> TinyImage:
    return direct.build("armv7l", cache)


def inspected(path: Path) -> Inspection:
    with path.open("rb") as file:
        return inspect(open_image(file, path.stat().st_size))


def test_the_kernel_tells_what_it_is(image: TinyImage) -> None:
    found = inspected(image.kernel)
    assert (found.boot, found.arch) == (Boot.KERNEL, Arch.ARMV7L), found.reason
    assert found.kernel is not None
    assert found.kernel.kind is KernelKind.ZIMAGE
    assert found.kernel.version == image.kernel_release
    assert found.kernel.lpae is True


def test_the_initial_ram_disk_tells_what_it_is(image: TinyImage) -> None:
    found = inspected(image.initrd)
    assert (found.boot, found.arch) == (Boot.NONE, Arch.ARMV7L)
    (initrd,) = found.initrds
    assert (initrd.version, initrd.virtio) == (image.kernel_release, True)


@pytest.fixture
def console(image: TinyImage, tmp_path: Path) -> Iterator[Path]:
    """The console of a server that runs the unpacked kernel."""
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    kernel = tmp_path / "uImage"
    kernel.write_bytes(artefacts.uncompressed_uimage(image.kernel.read_bytes()))
    log = tmp_path / "console"
    log.touch()
    command = [
        *("qemu-system-arm", "-M", "virt", "-cpu", "cortex-a15", "-m", "256", "-display", "none"),
        *("-nodefaults", "-serial", f"file:{log}", "-kernel", kernel, "-initrd", image.initrd),
        *("-append", image.command_line),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as machine:
        yield log
        machine.kill()


def test_qemu_starts_the_unpacked_kernel_to_its_login(console: Path) -> None:
    end = time.monotonic() + SECONDS
    while "login:" not in (text := console.read_text(errors="replace")):
        assert time.monotonic() < end, text[-4000:]
        time.sleep(0.1)
    assert "Uncompressing Linux" not in text
    # Disk and network are behind it, and only a kernel with LPAE sees it.
    assert "PCI host bridge to bus 0000:00" in text
