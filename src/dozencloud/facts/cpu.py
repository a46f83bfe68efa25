"""The processors: how many may be used, of which kinds, and who is the interrupt controller."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
import subprocess
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# (implementer, part) of MIDR_EL1 → name. Source: Arm's Technical Reference Manuals, as collected
# in util-linux sys-utils/lscpu-arm.c.
PARTS: Mapping[tuple[int, int], str] = {
    (0x41, 0xB76): "ARM1176",
    (0x41, 0xC05): "Cortex-A5",
    (0x41, 0xC07): "Cortex-A7",
    (0x41, 0xC08): "Cortex-A8",
    (0x41, 0xC09): "Cortex-A9",
    (0x41, 0xC0F): "Cortex-A15",
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x43, 0x0A1): "ThunderX",
    (0x43, 0x0AF): "ThunderX2",
    (0x46, 0x001): "A64FX",
    (0x48, 0xD01): "TSV110",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1a",
}

_SYSFS = Path("/sys/devices/system/cpu")
_PER_LINUX32 = 0x0008
_PERSONALITY_QUERY = 0xFFFFFFFF


@dataclass(frozen=True)
class Cluster:
    """CPUs of one kind. A machine with more than one is big.LITTLE."""

    model: str
    cpus: tuple[int, ...]
    implementer: int = 0
    part: int = 0


@dataclass(frozen=True)
class Cpu:
    """The processors as this process may use them."""

    online: int
    usable: float
    """CPUs' worth of time: the affinity mask, cut by the quota of the control group."""
    clusters: tuple[Cluster, ...]
    aarch32_el0: bool
    """32-bit ARM programs run directly (no emulation). Says nothing about 32-bit guests."""
    gic: int | None
    """Version of the host's own interrupt controller; None if unknown or not ARM."""

    @property
    def model(self) -> str:
        return " + ".join(cluster.model for cluster in self.clusters)

    @property
    def mixed(self) -> bool:
        return len(self.clusters) > 1

    @property
    def numbers(self) -> frozenset[int]:
        """Of the CPUs that are online."""
        return frozenset(number for cluster in self.clusters for number in cluster.cpus)


def arm_model(implementer: int, part: int) -> str:
    """A person's name for a CPU, or its numbers where we know none."""
    return PARTS.get((implementer, part), f"ARM CPU {implementer:#04x}/{part:#05x}")


def decode_midr(midr: int) -> tuple[int, int]:
    """(implementer, part) of a MIDR_EL1 value: bits 31-24 and 15-4."""
    return midr >> 24 & 0xFF, midr >> 4 & 0xFFF


def clusters_of(midrs: Mapping[int, int]) -> tuple[Cluster, ...]:
    """Group CPUs (number → MIDR_EL1) by kind, in the order of their first CPU."""
    return _grouped((cpu, *decode_midr(midr)) for cpu, midr in sorted(midrs.items()))


def parse_cpuinfo(text: str) -> tuple[Cluster, ...]:
    """Clusters from /proc/cpuinfo: ARM by implementer and part, others by "model name".

    32-bit ARM kernels give a "model name" too, which names the architecture and not the CPU.
    """
    arm: list[tuple[int, int, int]] = []
    others: dict[str, list[int]] = {}
    for block in re.split(r"\n\s*\n", text):
        fields = {
            name.strip(): value.strip()
            for name, separator, value in (line.partition(":") for line in block.splitlines())
            if separator
        }
        if not fields.get("processor", "").isdigit():
            continue
        number = int(fields["processor"])
        try:
            part = int(fields["CPU implementer"], 0), int(fields["CPU part"], 0)
        except (KeyError, ValueError):
            others.setdefault(fields.get("model name", "unknown CPU"), []).append(number)
        else:
            arm.append((number, *part))
    named = tuple(Cluster(name, tuple(cpus)) for name, cpus in others.items())
    return _grouped(arm) + named


def parse_quota_v2(text: str) -> float | None:
    """CPUs from cpu.max ("200000 100000" → 2.0, "max 100000" → None)."""
    quota, _, period = text.strip().partition(" ")
    return _quota(quota, period or "100000")


def parse_interrupts_gic(text: str) -> int | None:
    """The host's GIC from /proc/interrupts: "GICv3" or "GIC-0" (the driver of version 2)."""
    if match := re.search(r"\bGICv(\d)\b", text):
        return int(match[1])
    return 2 if re.search(r"\bGIC(-0)?\s", text) else None


def usable_cpus(affinity: int, quotas: Iterable[float | None]) -> float:
    """The smallest of the limits that apply."""
    return min([float(affinity), *(quota for quota in quotas if quota is not None)])


def parse_cgroup(text: str) -> tuple[str | None, str | None]:
    """Paths of this process in (version 2, version 1 "cpu") from /proc/self/cgroup."""
    unified = legacy = None
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            unified = path
        elif "cpu" in controllers.split(","):
            legacy = path
    return unified, legacy


def cpu() -> Cpu:
    """Read the facts of this machine."""
    affinity = len(os.sched_getaffinity(0))
    arm = platform.machine() == "aarch64"
    return Cpu(
        online=os.cpu_count() or affinity,
        usable=usable_cpus(affinity, _quotas()),
        clusters=clusters_of(_midrs()) or parse_cpuinfo(Path("/proc/cpuinfo").read_text()),
        aarch32_el0=arm and _personality_32bit() and _runs_32bit_elf(),
        gic=parse_interrupts_gic(Path("/proc/interrupts").read_text()) if arm else None,
    )


def arm_exit_elf() -> bytes:
    """The smallest static 32-bit ARM program: exit(0). 96 bytes (EABI, System V ABI chapter 4)."""
    base, header_size = 0x10000, 52 + 32
    code = struct.pack("<3I", 0xE3A00000, 0xE3A07001, 0xEF000000)  # mov r0,#0; mov r7,#1; svc 0
    size = header_size + len(code)
    identity = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    elf = struct.pack(
        "<HHIIIIIHHHHHH",
        *(2, 40, 1, base + header_size, 52, 0, 0x05000000, 52, 32, 1, 0, 0, 0),
    )
    segment = struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000)
    return identity + elf + segment + code


def _grouped(cpus: Iterable[tuple[int, int, int]]) -> tuple[Cluster, ...]:
    kinds: dict[tuple[int, int], list[int]] = {}
    for number, implementer, part in cpus:
        kinds.setdefault((implementer, part), []).append(number)
    return tuple(
        Cluster(arm_model(*kind), tuple(numbers), *kind) for kind, numbers in kinds.items()
    )


def _midrs() -> dict[int, int]:
    found = {}
    for path in _SYSFS.glob("cpu[0-9]*/regs/identification/midr_el1"):
        try:
            found[int(path.parents[2].name.removeprefix("cpu"))] = int(path.read_text(), 16)
        except (OSError, ValueError):  # an offline CPU has no readable register
            continue
    return found


def _quota(quota: str, period: str) -> float | None:
    try:
        limit = int(quota)
    except ValueError:
        return None
    return limit / int(period) if limit > 0 else None


def _quotas() -> Iterable[float | None]:
    """The quota of this process's group and of every group above it."""
    try:
        unified, legacy = parse_cgroup(Path("/proc/self/cgroup").read_text())
    except OSError:
        return
    for path in _upwards(Path("/sys/fs/cgroup"), unified):
        if (limit := path / "cpu.max").is_file():
            yield parse_quota_v2(limit.read_text())
    for path in _upwards(Path("/sys/fs/cgroup/cpu"), legacy):
        quota, period = path / "cpu.cfs_quota_us", path / "cpu.cfs_period_us"
        if quota.is_file() and period.is_file():
            yield _quota(quota.read_text(), period.read_text())


def _upwards(mount: Path, group: str | None) -> Iterable[Path]:
    if group is None or ".." in Path(group).parts:  # a group outside of our namespace
        return
    path = mount / group.lstrip("/")
    while path != mount:
        yield path
        path = path.parent
    yield mount


def _personality_32bit() -> bool:
    """Whether the kernel grants the 32-bit personality, which arm64 ties to AArch32 at EL0.

    It belongs to a thread, so one is spent on the question.
    """
    answer: list[bool] = []

    def change() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        before = libc.personality(ctypes.c_ulong(_PERSONALITY_QUERY))
        answer.append(libc.personality(ctypes.c_ulong(_PER_LINUX32)) != -1)
        libc.personality(ctypes.c_ulong(before))

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
    return answer[0]


def _runs_32bit_elf() -> bool:
    """Whether a 32-bit ARM program starts and ends well (the kernel may lack COMPAT)."""
    fd = os.memfd_create("aarch32", os.MFD_CLOEXEC)
    try:
        os.write(fd, arm_exit_elf())
        done = subprocess.run([f"/proc/{os.getpid()}/fd/{fd}"], check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        os.close(fd)
    return done.returncode == 0
