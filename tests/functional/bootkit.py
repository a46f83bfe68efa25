"""Emulated machines that start images, with nothing of a cloud around them."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from dozencloud.images.debian import tools

MACHINES = {
    "arm64": ("qemu-system-aarch64", "cortex-a57"),
    "armhf": ("qemu-system-arm", "cortex-a15"),
}
FIRMWARE = {"arm64": "AAVMF", "armhf": "AAVMF32"}

disk_tools = pytest.mark.skipif(
    any(tools.find(name) is None for name in (*tools.FOR_DISK, *tools.FOR_UEFI)),
    reason="needs e2fsprogs, qemu-utils, fdisk, dosfstools and mtools",
)


class Machine:
    """One emulated machine and its serial console."""

    def __init__(self, architecture: str, *arguments: str) -> None:
        program, cpu = MACHINES[architecture]
        if tools.find(program) is None:
            pytest.skip(f"needs {program}")
        self.console = ""
        self.matched = ""
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [
                *(program, "-M", "virt", "-cpu", cpu, "-m", "1024", "-display", "none"),
                *("-nodefaults", "-serial", "stdio", "-device", "virtio-rng-pci"),
                *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def wait(self, pattern: str, seconds: float) -> float:
        """Seconds from the start until the pattern is on the console; what precedes is dropped."""
        if not self.sees(pattern, seconds):
            pytest.fail(f"no {pattern} within {seconds} s; console:\n{self.console[-4000:]}")
        return time.monotonic() - self._started

    def sees(self, pattern: str, seconds: float) -> bool:
        """Whether the pattern comes in time; then what precedes it is dropped."""
        assert self._process.stdout
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.console)):
            left = end - time.monotonic()
            if left < 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return False
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                pytest.fail(f"QEMU ended; console:\n{self.console[-4000:]}")
            self.console += data.decode(errors="replace").replace("\r", "")
        self.console = self.console[found.end() :]
        self.matched = found[0]
        return True

    def type(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def run(self, command: str, seconds: float = 60) -> str:
        """Run a command in the shell of the console; returns its output, fails if it fails."""
        self.console = ""
        # The quotes keep the echo of what is typed from looking like the marks.
        self.type(f"echo 'status'-begin; {command}; echo 'status'-$?-end")
        before = r"(?s).*?status-begin\n(.*?)status-(\d+)-end\n"
        end = time.monotonic() + seconds
        assert self._process.stdout
        while not (found := re.match(before, self.console)):
            if time.monotonic() > end:
                pytest.fail(f"{command} does not end; console:\n{self.console[-4000:]}")
            if select.select([self._process.stdout], [], [], 1)[0]:
                data = os.read(self._process.stdout.fileno(), 65536)
                self.console += data.decode(errors="replace").replace("\r", "")
        assert found[2] == "0", found[1]
        return found[1]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def firmware(architecture: str, folder: Path) -> tuple[str, ...]:
    """QEMU's arguments for UEFI, with variables of its own."""
    code = Path(f"/usr/share/AAVMF/{FIRMWARE[architecture]}_CODE.fd")
    if not code.exists():
        pytest.skip(f"needs {code} (qemu-efi-aarch64, qemu-efi-arm)")
    variables = folder / "variables.fd"
    if not variables.exists():
        shutil.copyfile(code.with_name(code.name.replace("CODE", "VARS")), variables)
    return (
        *("-drive", f"if=pflash,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,file={variables}"),
    )


def drive(path: Path) -> tuple[str, ...]:
    return (
        *("-drive", f"if=none,id=disk,format=qcow2,file={path}"),
        *("-device", "virtio-blk-pci,drive=disk"),
    )
