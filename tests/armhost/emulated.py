"""Runs an emulated ARM machine. An ARMv8 one has a KVM that works: QEMU emulates EL2 for it."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disks import Disks

from dozencloud.errors import Problem

CPUS = 2
PORT = "org.dozencloud.report"
"""The machine writes one JSON object a line to this virtio port; here it is QEMU's output."""


@dataclass(frozen=True)
class Host:
    """A machine by the CPU that it has."""

    name: str
    cpu: str
    """QEMU's -cpu."""
    emulator: str = "qemu-system-aarch64"
    machine: str = "virt,virtualization=on,gic-version=3"
    """QEMU's -machine."""
    memory_mib: int = 3072


def command(disks: Disks, work: Path, host: Host, console: Path, *more: str) -> list[str]:
    """How QEMU is started. more: for further devices."""
    emulator = [
        *(host.emulator, "-machine", host.machine, "-cpu", host.cpu),
        # The default cache of translated code is a share of the memory and too small for two
        # systems, one inside the other.
        *("-smp", str(CPUS), "-m", str(host.memory_mib), "-accel", "tcg,thread=multi,tb-size=512"),
        *("-nodefaults", "-display", "none", "-no-reboot"),
        *("-kernel", str(disks.kernel), "-initrd", str(disks.initramfs)),
        *("-append", "console=ttyAMA0 earlycon panic=-1 loglevel=7"),
        *("-serial", f"file:{console}"),
        *("-device", "virtio-serial-pci", "-chardev", "stdio,id=report"),
        *("-device", f"virtserialport,chardev=report,name={PORT}"),
        *("-device", "virtio-rng-pci"),
        *more,
    ]
    for number, (image, option) in enumerate(
        ((disks.system, "snapshot=on"), (disks.python, "snapshot=on"), (work, "cache=unsafe"))
    ):
        drive = f"if=none,id=disk{number},format=raw,{option},file={image}"
        emulator += ["-drive", drive, "-device", f"virtio-blk-pci,drive=disk{number}"]
    return emulator


def run(
    disks: Disks, work: Path, host: Host, console: Path, seconds: int
) -> Iterator[dict[str, Any]]:
    """Switch the machine on; yields what it reports until it has switched itself off.

    seconds: after these it is switched off, and a Problem is raised.
    """
    late = threading.Event()
    last = ""
    errors = console.with_suffix(".qemu")
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command(disks, work, host, console),
            stdin=subprocess.PIPE,  # at its end QEMU would unplug the report port
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            errors="replace",
        ) as machine,
    ):

        def stop() -> None:
            late.set()
            machine.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            assert machine.stdout is not None
            for line in machine.stdout:
                event = json.loads(line)
                last = event["event"]
                yield event
        finally:
            timer.cancel()
            machine.kill()
    said = errors.read_text() + console.read_text(errors="replace")
    detail = "\n".join(said.splitlines()[-30:])
    if late.is_set():
        raise Problem(
            f"The emulated machine {host.name} was not done after {seconds} s.",
            "The lines below are the last of its console.",
            detail=detail,
        )
    if last not in ("end", "failed"):
        raise Problem(
            f"The emulated machine {host.name} went off before it was done.",
            "The lines below are the last of its console.",
            detail=detail,
        )
