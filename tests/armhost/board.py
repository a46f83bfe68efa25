"""The emulated ARM machine that joins a cloud: its wire, its power, and SSH into it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import emulated
import nodedisks
from disks import Disks, run

from dozencloud.cloud.installation import Cloud
from dozencloud.errors import Problem

OFF = (
    *("csum", "gso", "host_tso4", "host_tso6", "host_ufo"),
    *("guest_csum", "guest_tso4", "guest_tso6", "guest_ufo"),
)
"""No packet leaves or comes with its checksum left to the receiver: between machines is a wire."""


class Board:
    """One machine, switched on while the context lasts.

    folder: for its disk and its console. It has an address as a cloud under that root would have.
    name: its host name.
    """

    def __init__(self, disks: Disks, host: emulated.Host, folder: Path, name: str) -> None:
        self.disks, self.host, self.folder, self.name = disks, host, folder, name
        place = Cloud(folder)
        self.outside, self.address = place.link
        self.tap = place.link_devices[0]
        self.key = folder / "key"
        self.console = folder / "console.log"

    def __enter__(self) -> Self:
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)]
        run(make, "a key")
        network = {
            "name": self.name,
            "address": f"{self.address}/30",
            "gateway": self.outside,
        }
        suite = nodedisks.suite_of(self.disks)
        work = nodedisks.work_disk(self.folder, suite, network, self.key)
        try:
            for words in (
                ("tuntap", "add", "dev", self.tap, "mode", "tap"),
                ("address", "add", f"{self.outside}/30", "dev", self.tap),
                ("link", "set", self.tap, "up"),
            ):
                run(["ip", *words], "the machine's wire")
            device = ",".join(["virtio-net-pci,netdev=wire", *(f"{name}=off" for name in OFF)])
            wire = f"tap,id=wire,ifname={self.tap},script=no,downscript=no"
            more = ("-netdev", wire, "-device", device)
            command = emulated.command(self.disks, work, self.host, self.console, *more)
            with (self.folder / "qemu.log").open("w") as log:
                self._qemu = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log
                )
        except BaseException:
            self._unplug()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._qemu.kill()
        self._qemu.wait()
        self._unplug()

    def _unplug(self) -> None:
        subprocess.run(["ip", "link", "delete", self.tap], check=False, capture_output=True)

    def _ssh(self, words: Sequence[str]) -> list[str]:
        return [
            *("ssh", "-i", str(self.key), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            *("-o", "ConnectTimeout=20", f"root@{self.address}", *words),
        ]

    def wait(self, seconds: float) -> None:
        """Until it lets us in."""
        end = time.monotonic() + seconds
        while not self.answers():
            if self._qemu.poll() is not None or time.monotonic() > end:
                said = (self.folder / "qemu.log").read_text() + self.said(30)
                raise Problem(
                    f"The machine {self.host.name} was not up after {seconds:.0f} s.",
                    "The lines below are the last of its console.",
                    detail=said,
                )
            time.sleep(1)

    def answers(self) -> bool:
        return subprocess.run(self._ssh(["true"]), check=False, capture_output=True).returncode == 0

    def ask(self, *words: str) -> str:
        """Output of a shell command that must succeed there."""
        done = subprocess.run(
            self._ssh(words), check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise Problem(
                f"On the machine `{' '.join(words)}` ended with status {done.returncode}.",
                detail=f"{done.stdout}{done.stderr}",
            )
        return done.stdout.strip()

    def follow(self, say: Callable[[str], None], *words: str) -> None:
        """Run a shell command there that must succeed, and say each of its lines at once."""
        with subprocess.Popen(
            self._ssh(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                say(line.rstrip())
        if process.returncode:
            raise Problem(f"On the machine `{words[0]}` ended with status {process.returncode}.")

    def said(self, count: int) -> str:
        """The last lines of its console."""
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-count:])
