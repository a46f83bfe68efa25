"""What the program printed, as figures that can be compared."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dozencloud.errors import Problem
from dozencloud.facts.cpu import parse_cpuinfo

LATENCY = "latency"


class Unit(StrEnum):
    """What a figure counts."""

    MILLION_PER_SECOND = "M/s"
    MEGABYTE_PER_SECOND = "MB/s"
    NANOSECOND = "ns"
    MICROSECOND = "µs"

    @property
    def is_time(self) -> bool:
        """Less is better."""
        return self in (Unit.NANOSECOND, Unit.MICROSECOND)


@dataclass(frozen=True)
class Measure:
    """One thing that is measured. name: as the program prints it."""

    name: str
    title: str
    unit: Unit

    def figure(self, units: int, ns: int) -> float:
        """A sample in this measure's unit."""
        if self.unit.is_time:
            return ns / units / (1000 if self.unit is Unit.MICROSECOND else 1)
        return units * 1000 / ns


MEASURES = (
    Measure("integer", "integer operations", Unit.MILLION_PER_SECOND),
    Measure("float", "floating-point operations", Unit.MILLION_PER_SECOND),
    Measure("call", "call by a pointer", Unit.NANOSECOND),
    Measure("read", "memory, read", Unit.MEGABYTE_PER_SECOND),
    Measure("write", "memory, write", Unit.MEGABYTE_PER_SECOND),
    Measure("copy", "memory, copy", Unit.MEGABYTE_PER_SECOND),
    Measure("syscall", "system call", Unit.NANOSECOND),
    Measure("fault", "page fault", Unit.NANOSECOND),
    Measure("switch", "context switch", Unit.NANOSECOND),
    Measure("fork", "process, start and end", Unit.MICROSECOND),
    Measure(LATENCY, "memory latency", Unit.NANOSECOND),
)
BY_NAME: Mapping[str, Measure] = {measure.name: measure for measure in MEASURES}


@dataclass(frozen=True)
class Figure:
    """All repetitions of one measure. parameter: bytes that it works on, 0 if it has none."""

    measure: Measure
    parameter: int
    samples: tuple[float, ...]

    @property
    def best(self) -> float:
        """What the machine can. Whatever else its host does makes a sample worse, never better."""
        return min(self.samples) if self.measure.unit.is_time else max(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """The middle half of the samples, against the median: 0.1 is plus or minus 5%."""
        if len(self.samples) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (high - low) / self.median

    def faster_than(self, other: Figure) -> float:
        """How many times as fast as `other`: 0.5 is half as fast, whatever the unit."""
        ratio = self.best / other.best
        return 1 / ratio if self.measure.unit.is_time else ratio


@dataclass(frozen=True)
class Counter:
    """A performance counter: what it counted, or the error that it gave (errno)."""

    name: str
    value: int = 0
    running: bool = False
    error: int = 0


@dataclass(frozen=True)
class Machine:
    """Where the program ran. runs: how, as far as is known ("KVM", "emulated")."""

    name: str
    architecture: str
    kernel: str
    cpu: str
    cpus: int
    runs: str = ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        cpus = f"{self.cpus} CPU" + ("s" if self.cpus != 1 else "")
        parts = (self.runs, self.architecture, self.cpu, cpus, f"Linux {self.kernel}")
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Result:
    """What one machine gave.

    paranoid: its kernel.perf_event_paranoid; None if it has none.
    counted: (operations, nanoseconds) that the counters saw.
    backwards: how often its clock ran backwards.
    elapsed: seconds of the run by its own clock; watched: by the clock of who asked.
    left_out: measures for which time or memory was short.
    """

    machine: Machine
    figures: tuple[Figure, ...]
    counters: tuple[Counter, ...]
    paranoid: int | None
    counted: tuple[int, int]
    backwards: int
    elapsed: float
    watched: float
    left_out: tuple[str, ...] = ()

    def figure(self, name: str, parameter: int | None = None) -> Figure | None:
        """The figure of a measure; parameter: None takes any."""
        for figure in self.figures:
            if figure.measure.name == name and parameter in (None, figure.parameter):
                return figure
        return None

    @property
    def plain(self) -> tuple[Figure, ...]:
        """All figures but the latencies, in the order of MEASURES."""
        found = (self.figure(measure.name) for measure in MEASURES if measure.name != LATENCY)
        return tuple(figure for figure in found if figure)

    @property
    def latencies(self) -> tuple[Figure, ...]:
        """From small to large."""
        some = (figure for figure in self.figures if figure.measure.name == LATENCY)
        return tuple(sorted(some, key=lambda figure: figure.parameter))

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        machine = self.machine
        return {
            "name": machine.name,
            "architecture": machine.architecture,
            "kernel": machine.kernel,
            "cpu": machine.cpu,
            "cpus": machine.cpus,
            "runs": machine.runs,
            "figures": [
                {
                    "name": figure.measure.name,
                    "unit": str(figure.measure.unit),
                    "bytes": figure.parameter,
                    "best": figure.best,
                    "median": figure.median,
                    "spread": figure.spread,
                    "samples": list(figure.samples),
                }
                for figure in self.figures
            ],
            "counters": counters(self),
            "clock": clock(self),
            "restless": restless(self),
            "left_out": list(self.left_out),
        }


def parse_machine(name: str, lines: Iterable[str], runs: str = "") -> tuple[Machine, int | None]:
    """Who answers, and its perf_event_paranoid, from what the script says first."""
    said: dict[str, str] = {}
    cpuinfo = []
    for line in lines:
        key, _, value = line.partition(" ")
        if key == "cpuinfo":
            cpuinfo.append(value)
        else:
            said[key] = value
    clusters = parse_cpuinfo("\n".join(cpuinfo))
    machine = Machine(
        name,
        architecture=said.get("machine", ""),
        kernel=said.get("kernel", ""),
        cpu=" + ".join(cluster.model for cluster in clusters),
        cpus=sum(len(cluster.cpus) for cluster in clusters),
        runs=runs,
    )
    paranoid = said.get("paranoid", "")
    return machine, int(paranoid) if paranoid.lstrip("-").isdigit() else None


def parse(machine: Machine, paranoid: int | None, lines: Sequence[str], watched: float) -> Result:
    """The program's lines (see program/bench.c); Problem if they are not what it prints."""
    try:
        return _parse(machine, paranoid, lines, watched)
    except (ValueError, ZeroDivisionError) as error:
        raise Problem(
            f"{machine.name} sent what the measuring program never prints.",
            "Somebody may have changed its shell or its start-up files.",
            detail=str(error),
        ) from error


def _parse(machine: Machine, paranoid: int | None, lines: Sequence[str], watched: float) -> Result:
    samples: dict[tuple[str, int], list[float]] = {}
    counters: list[Counter] = []
    left_out: dict[str, None] = {}
    counted, backwards, elapsed = (0, 0), 0, 0.0
    whole = False
    for line in lines:
        match line.split():
            case ["sample", name, parameter, units, ns] if name in BY_NAME:
                key = name, int(parameter)
                samples.setdefault(key, []).append(BY_NAME[name].figure(int(units), int(ns)))
            case ["late" | "small" as reason, name, parameter]:
                left_out[_left_out(reason, name, int(parameter))] = None
            case ["counter", name, "error", number]:
                counters.append(Counter(name, error=int(number)))
            case ["counter", name, value, _, running]:
                counters.append(Counter(name, int(value), running=int(running) > 0))
            case ["counted", units, ns]:
                counted = int(units), int(ns)
            case ["clock", _, number]:
                backwards = int(number)
            case ["failed", what, number]:
                raise Problem(
                    f"The measurement stopped on {machine.name}: {what} failed with "
                    f"{errno_name(int(number))}.",
                    "Look at its console for what it lacks, often memory.",
                )
            case ["end", ns]:
                elapsed, whole = int(ns) / 1e9, True
    if not whole or not samples:
        raise ValueError(lines[-1] if lines else "nothing")
    figures = tuple(
        Figure(BY_NAME[name], parameter, tuple(values))
        for (name, parameter), values in samples.items()
    )
    return Result(
        machine,
        figures,
        tuple(counters),
        paranoid,
        counted,
        backwards,
        elapsed,
        watched,
        tuple(left_out),
    )


def _left_out(reason: str, name: str, parameter: int) -> str:
    what = BY_NAME[name].title if name in BY_NAME else name
    size = f" of {size_text(parameter)}" if parameter else ""
    return f"{what}{size} ({'no time was left' if reason == 'late' else 'not enough memory'})"


def size_text(size: int) -> str:
    """Bytes for people: 4096 is 4 KiB."""
    kib = size // 1024
    return f"{kib // 1024} MiB" if kib >= 1024 else f"{kib} KiB"


# ---- judgements ---------------------------------------------------------------------------

ENOENT, EPERM, EACCES, ENODEV, ENOSYS, EOPNOTSUPP = 2, 1, 13, 19, 38, 95
"""Linux's numbers, the same on every architecture of ours (asm-generic/errno.h)."""

NAMES = {
    EPERM: "EPERM",
    ENOENT: "ENOENT",
    12: "ENOMEM (not enough memory)",
    EACCES: "EACCES",
    11: "EAGAIN (too many processes)",
}


def errno_name(number: int) -> str:
    return NAMES.get(number, f"error {number}")


def counters(result: Result) -> str:
    """Whether the machine has performance counters, or why not; a clause."""
    errors = {counter.error for counter in result.counters}
    found = {counter.name: counter for counter in result.counters if not counter.error}
    if not found:
        return _no_counters(errors, result.paranoid)
    operations, ns = result.counted
    if not all(counter.value and counter.running for counter in found.values()) or not ns:
        return "there, but they stand still"
    cycles, instructions = found.get("cycles"), found.get("instructions")
    if not cycles or not instructions:
        # QEMU's own PMU has no instructions without -icount.
        return f"no real ones: only {', '.join(found)}, as an emulator has"
    return (
        f"real ({cycles.value / ns:.2f} GHz, {instructions.value / cycles.value:.2f} instructions "
        f"per cycle, {instructions.value / operations:.2f} per operation)"
    )


def _no_counters(errors: set[int], paranoid: int | None) -> str:
    if errors & {EACCES, EPERM}:
        return (
            f"not for this user (kernel.perf_event_paranoid is {paranoid}); "
            "log in as root to see them"
        )
    if ENOSYS in errors:
        return "none: this kernel has no perf events"
    if errors & {ENOENT, ENODEV, EOPNOTSUPP}:
        return "none: the machine has no PMU"
    return "none: " + ", ".join(map(errno_name, sorted(errors)))


RESTLESS = 0.2
"""Spread above which half of the figures say that something else was at work."""


def restless(result: Result) -> bool:
    """The machine, or its host, was busy with other things meanwhile."""
    return statistics.median(figure.spread for figure in result.figures) > RESTLESS


CLOCK_TOLERANCE = 0.05
"""Of the run: starting the program and sending the last line take their time, too."""


def clock(result: Result) -> str:
    """Whether times by this machine's clock can be trusted; a clause."""
    if result.backwards:
        return f"ran backwards {result.backwards} times: do not trust these figures"
    off = result.elapsed / result.watched - 1
    if abs(off) > CLOCK_TOLERANCE:
        way = "fast" if off > 0 else "slow"
        return f"{abs(off):.0%} {way} against this machine's: times are off by as much"
    return f"right ({result.elapsed:.1f} s here were {result.watched:.1f} s outside)"
