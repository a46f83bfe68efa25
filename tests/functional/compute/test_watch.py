"""Servers of the wrong kinds, really started: the watch finds out and says why.

That it knows each kind, records show (tests/unit/compute/test_hang.py). Here QEMU still gives it
such registers, of both widths, and such consoles, and its patience ends in time. Kinds that differ
in the record alone are started in long runs.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dozencloud.images.debian import disk
from dozencloud.images.tiny import direct

pytestmark = [pytest.mark.functional, pytest.mark.timeout(300)]

if os.geteuid():
    pytest.skip("needs root", allow_module_level=True)

pytest.importorskip("libvirt")
from novakit import Disks, NovaKit, Server  # noqa: E402

from dozencloud.compute.hang import watchdog  # noqa: E402
from dozencloud.compute.hang.symptoms import Finding  # noqa: E402
from dozencloud.compute.libvirt import bootcheck  # noqa: E402

PATIENCE = 5
"""Seconds of processor time; what boots speaks within two."""
MIB = 1 << 20
EFI_X86 = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0\x64\x86" + bytes(400)
"""The start of an EFI program for x86-64."""
FORCED = {"hw_machine_type": "virt", bootcheck.PROPERTY: "skip"}
AARCH64 = {**FORCED, "hw_architecture": "aarch64"}
ARMV7 = {**FORCED, "hw_architecture": "armv7l"}
UEFI = {**AARCH64, "hw_firmware_type": "uefi"}
CONSOLE = {"os_command_line": "console=ttyAMA0"}


@dataclass(frozen=True)
class Parts:
    """What the servers are put together from."""

    folder: Path
    arm64: direct.TinyImage
    armhf: direct.TinyImage


@dataclass
class Watch:
    """A driver whose findings are kept."""

    kit: NovaKit
    found: dict[str, tuple[Finding, str]]

    def finding(self, server: Server, seconds: float) -> tuple[Finding, str]:
        end = time.monotonic() + seconds
        while server.instance.uuid not in self.found:
            if time.monotonic() > end:
                pytest.fail(f"nothing found; its console:\n{server.console[-3000:]}")
            time.sleep(0.2)
        return self.found[server.instance.uuid]


@pytest.fixture(scope="module")
def parts(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    return Parts(folder, direct.build("aarch64", cache), direct.build("armv7l", cache))


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    found: dict[str, tuple[Finding, str]] = {}

    def keep(instance: Any, finding: Finding, seen: str) -> None:
        assert instance.uuid not in found, "said twice"
        found[instance.uuid] = finding, seen

    with NovaKit() as kit:
        kit.driver._watchdog = watchdog.Watchdog(kit.driver._host.get_connection, keep, PATIENCE)
        yield Watch(kit, found)


Made = tuple[dict[str, str], Disks]


def qcow2(raw: Path) -> Disks:
    image = raw.with_suffix(".qcow2")
    disk.compress(raw, image)
    return Disks(disk=image)


def empty_disk(parts: Parts) -> Disks:
    raw = parts.folder / "empty.raw"
    with raw.open("wb") as file:
        file.truncate(40 * MIB)
    return qcow2(raw)


def zimage_as_aarch64(parts: Parts) -> Made:
    return {**AARCH64, **CONSOLE}, Disks(kernel=parts.armhf.kernel)


def image_as_armv7(parts: Parts) -> Made:
    return {**ARMV7, **CONSOLE}, Disks(kernel=parts.arm64.kernel)


def noise_as_kernel(parts: Parts) -> Made:
    noise = parts.folder / "noise"
    noise.write_bytes(random.Random(1).randbytes(MIB))  # noqa: S311
    return {**AARCH64, **CONSOLE}, Disks(kernel=noise)


def kernel_without_console(parts: Parts) -> Made:
    """It panics in silence, and a kernel that panicked is busy waiting."""
    silent = {"os_command_line": "quiet console=tty0"}
    return {**AARCH64, **silent}, Disks(kernel=parts.arm64.kernel)


def kernel_without_root(parts: Parts) -> Made:
    return {**AARCH64, **CONSOLE}, Disks(kernel=parts.arm64.kernel)


def kernel_that_waits(parts: Parts) -> Made:
    waiting = {"os_command_line": "console=ttyAMA0 root=/dev/vdz rootwait"}
    return {**AARCH64, **waiting}, Disks(kernel=parts.arm64.kernel)


def uefi_and_empty_disk(parts: Parts) -> Made:
    return UEFI, empty_disk(parts)


def uefi_and_x86_disk(parts: Parts) -> Made:
    program, raw = parts.folder / "bootx64.efi", parts.folder / "x86.raw"
    program.write_bytes(EFI_X86)
    with raw.open("wb") as file:
        file.truncate(40 * MIB)
    disk.make_esp(raw, 0, 40 * MIB, 0x12345678, {"EFI/BOOT/BOOTX64.EFI": program}, 1 << 30)
    return UEFI, qcow2(raw)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        pytest.param(
            zimage_as_aarch64,
            "wrong-architecture",
            "kernel is for 32-bit ARM (armv7l), but",
            marks=pytest.mark.long,
        ),
        (image_as_armv7, "wrong-architecture", "kernel is for 64-bit ARM (aarch64), but"),
        (noise_as_kernel, "no-code", "fell into exception vectors"),
        (kernel_without_console, "no-console", "no console= of its command line"),
        pytest.param(
            kernel_without_root,
            "root-missing",
            "cannot mount its root file system",
            marks=pytest.mark.long,
        ),
        # In every run by a user's eyes: tests/e2e/test_hang.py.
        pytest.param(
            kernel_that_waits,
            "root-waiting",
            "waits for its root device /dev/vdz",
            marks=pytest.mark.long,
        ),
        pytest.param(uefi_and_empty_disk, "firmware", "The disk is empty", marks=pytest.mark.long),
        (uefi_and_x86_disk, "firmware", "x86-64 loader only"),
    ],
)
def test_what_cannot_come_up_is_found_and_explained(
    watch: Watch, parts: Parts, make: Callable[[Parts], Made], code: str, words: str
) -> None:
    properties, disks = make(parts)
    server = watch.kit.server(properties, disks)
    watch.kit.start(server)
    finding, seen = watch.finding(server, 120)
    print(finding, seen)
    assert finding.code == code, (finding, seen)
    assert words in finding.cause
    assert watch.kit.driver.get_info(server.instance).state == 1, "it still runs"
    watch.kit.destroy(server)


def test_what_comes_up_is_left_in_peace(watch: Watch, parts: Parts) -> None:
    disks = Disks(parts.arm64.disk, parts.arm64.kernel, parts.arm64.initrd)
    right = {**AARCH64, "os_command_line": parts.arm64.command_line}
    server = watch.kit.server(right, disks)
    watch.kit.start(server)
    watch.kit.wait(server, "login:", 60)
    end = time.monotonic() + 30
    while server.instance.uuid in watch.kit.driver._watchdog._servers and time.monotonic() < end:
        time.sleep(0.2)
    assert server.instance.uuid not in watch.kit.driver._watchdog._servers
    assert server.instance.uuid not in watch.found
    watch.kit.destroy(server)
