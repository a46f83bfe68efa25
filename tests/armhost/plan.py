"""Which machines are emulated, what each is asked to start, and what must come of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from emulated import Host
from guests import COMMAND_LINE, JOB


@dataclass(frozen=True)
class Guest:
    """One guest: who writes its domain, what it is, and what must execute it."""

    name: str
    architecture: str
    boot: str
    accelerator: str
    driver: str = "ours"
    measured: bool = False
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    operations: tuple[str, ...] = ()
    """What is done to it after its last word (inside/operations.py)."""
    seconds: int = 240
    """It must have said its last word by then; 0: it is not waited for, only its domain counts."""

    def job(self) -> dict[str, Any]:
        """What the machine is told."""
        files = {"disk": f"{self.architecture}/disk"}
        if self.boot == "kernel":
            files = {name: f"{self.architecture}/{name}" for name in ("kernel", "initrd")}
        words = f"{COMMAND_LINE} {JOB}" if self.measured else COMMAND_LINE
        return {**asdict(self), "files": files, "command_line": words}


@dataclass(frozen=True)
class Run:
    """One machine with its guests."""

    host: Host
    aarch32: bool
    """Whether its KVM really runs 32-bit guests."""
    guests: tuple[Guest, ...]
    seconds: int


# Pointer authentication in software makes everything five times slower. With LPA2 a guest's page
# tables begin at level -1, and QEMU before 8.2 names the guest's level where a page is missing in
# KVM's tables ("target/arm/ptw: Report stage 2 fault level for stage 2 faults on stage 1 ptw"). KVM
# knows no level -1: a guest that comes back from a file, or from another machine, ends, for there
# all are missing.
MAX = Host("max", "max,pauth=off,sve=off,sme=off,lpa2=off")
# KVM offers SVE, with which QEMU 7.2 refuses 32-bit guests; and a cheap pointer authentication.
SVE = Host("max with SVE", "max,pauth-impdef=on")
# Has no 32-bit EL1.
N1 = Host("neoverse-n1", "neoverse-n1")

LIFE = ("pause", "suspend", "stop and start")
V8 = Guest("AArch64, kernel", "aarch64", "kernel", "kvm", measured=True, operations=LIFE)
V8_UEFI = Guest("AArch64, UEFI", "aarch64", "uefi", "kvm", seconds=300)
V7 = Guest(
    *("ARMv7, kernel", "armv7l", "kernel", "kvm"),
    measured=True,
    extra_specs={"hw:pmu": "true"},
    operations=LIFE,
)
V7_UEFI = Guest("ARMv7, UEFI", "armv7l", "uefi", "kvm", seconds=300)
V7_STOCK = Guest(
    "ARMv7, kernel, stock Nova",
    *("armv7l", "kernel", "qemu", "stock"),
    measured=True,
    seconds=900,
)
V7_EMULATED = Guest("ARMv7, kernel", "armv7l", "kernel", "qemu", seconds=0)

FULL = (
    Run(MAX, True, (V8, V7, V7_STOCK, V8_UEFI, V7_UEFI), 3000),
    Run(N1, False, (V8, V7_EMULATED), 600),
    Run(SVE, True, (V7,), 600),
)
SHORT = (Run(MAX, True, (V8, V7), 900),)


def complaints(guest: Guest, result: Mapping[str, Any]) -> Iterator[str]:
    """What is not as it must be; nothing, if the guest is right."""
    if "error" in result:
        yield f"did not start: {result['error']}"
        return
    if "late" in result:
        yield f"did not say {result['late']!r} in {guest.seconds} s"
        return
    if f"<domain type='{guest.accelerator}'" not in result["xml"]:
        yield f"its domain is not of type {guest.accelerator}"
    accelerator = "kvm" if guest.accelerator == "kvm" else "tcg"
    if f"-accel {accelerator}" not in result["command"]:
        yield f"QEMU runs without -accel {accelerator}"
    narrow = guest.architecture == "armv7l" and guest.accelerator == "kvm"
    if ("-cpu host,aarch64=off" in result["command"]) != narrow:
        yield f"QEMU's CPU is {'not ' if narrow else ''}a 32-bit one of KVM"
    if guest.seconds:
        for name in guest.operations:
            if problem := result["survived"].get(name, "it was never done"):
                yield f"{name}: {problem}"
        said = result["said"]
        if said.get("machine") != guest.architecture:
            yield f"runs as {said.get('machine')}, not {guest.architecture}"
        if (said.get("efi") == "yes") != (guest.boot == "uefi"):
            yield f"started by UEFI: {said.get('efi')}"
