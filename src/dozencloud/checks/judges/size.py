"""Memory, disks and processors: enough for a cloud, or for a node?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dozencloud.checks.judges.words import cpus, gib
from dozencloud.checks.needs import Needs
from dozencloud.facts import Cpu, Facts, KvmState
from dozencloud.verdicts import Level, Verdict

SMALLEST_SERVER = 256
"""MiB of memory that `m1.nano` has, of which the first server is."""


def size(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    memory = facts.memory
    if memory.total < needs.memory:
        yield Verdict(
            "memory",
            Level.BAD,
            f"This machine has {gib(memory.total)} of memory; DozenCloud needs"
            f" {gib(needs.memory)}.",
            "Use a machine with more memory.",
        )
    elif memory.total < needs.reserved + SMALLEST_SERVER:
        yield Verdict(
            "memory",
            Level.BAD,
            f"compute.reserved_memory is {needs.reserved} MiB, and this machine has"
            f" {memory.total} MiB of memory: too little would be left for servers.",
            f"Set it to {memory.total - SMALLEST_SERVER} or less in {needs.settings}.",
        )
    elif memory.available < needs.available and not needs.running:
        yield Verdict(
            "memory",
            Level.WARN,
            f"Only {gib(memory.available)} of {gib(memory.total)} of memory are free; a cloud "
            f"uses about {gib(needs.available)}.",
            "Stop what uses most of it; to see what: ps aux --sort=-rss | head",
        )
    else:
        yield Verdict(
            "memory",
            Level.OK,
            f"{gib(memory.available)} of {gib(memory.total)} of memory are free.",
        )

    disks = {disk.path: disk for disk in facts.disks}
    for space in needs.spaces:
        disk = disks[space.path.absolute()]
        free = f"{gib(disk.free)} are free on the disk for {space.path}"
        mend = f"Make room; to see what is big: sudo du -xhd1 {disk.at} | sort -h | tail"
        if disk.free < space.least:
            fact = f"Only {free}; {gib(space.least)} are needed."
            yield Verdict("disk", Level.BAD, fact, mend)
        elif disk.inodes_free is not None and disk.inodes_free < _INODES:
            fact = f"Only {disk.inodes_free} files can still be made on the disk for {space.path}."
            yield Verdict("disk", Level.BAD, fact, "Remove small files that nobody needs.")
        elif disk.free < space.good:
            fact = f"Only {free}; with images and servers {gib(space.good)} are better."
            yield Verdict("disk", Level.WARN, fact, mend)
        else:
            yield Verdict("disk", Level.OK, f"{free}.")


# The Python environment alone has about 40,000 files.
_INODES = 100_000


def processors(facts: Facts, needs: Needs) -> Iterator[Verdict]:
    cpu, kvm, arm = facts.cpu, facts.kvm, facts.system.architecture.arm
    count = f"{cpu.usable:g} of {cpu.online} CPUs" if cpu.usable < cpu.online else cpus(cpu.online)
    if wrong := dedicated_cpus(cpu, needs.dedicated, needs.settings):
        yield wrong
    elif cpu.mixed:
        kinds = ", ".join(f"{len(each.cpus)} x {each.model}" for each in cpu.clusters)
        fact = f"This machine has CPUs of {len(cpu.clusters)} kinds ({kinds})."
        yield Verdict("cpu", Level.NOTE, fact)
    else:
        yield Verdict("cpu", Level.OK, f"{count} may be used ({cpu.model}).")

    why = f" ({kvm.reason})" if kvm.reason else ""
    if kvm.state is KvmState.UNUSABLE and not facts.system.root:
        return  # who is not root may only lack the right to look
    if needs.kvm and not kvm.for_servers:
        for_root = "it works for root only" if kvm.root_only else ""
        yield Verdict(
            "kvm",
            Level.BAD,
            f"compute.virt_type is kvm, and KVM cannot be used here ({kvm.reason or for_root}).",
            f'Set it to "auto" in {needs.settings}.',
        )
    elif kvm.for_servers and arm:
        width = "64-bit and 32-bit" if kvm.aarch32_el1 else "64-bit"
        emulated = "" if kvm.aarch32_el1 else "; 32-bit ones run under emulation"
        yield Verdict("kvm", Level.OK, f"{width} ARM servers run with KVM{emulated}.")
    elif kvm.usable and arm:
        yield Verdict(
            "kvm",
            Level.WARN,
            "KVM works for root only: ARM servers run under emulation, many times slower.",
            "Run: sudo groupadd -rf kvm; sudo chgrp kvm /dev/kvm; sudo chmod 660 /dev/kvm; "
            f"{needs.command} up",
        )
    elif arm:
        yield Verdict(
            "kvm",
            Level.WARN,
            f"KVM is {kvm.state.value}{why}: ARM servers run under emulation, many times slower.",
            "Turn on virtualization in the firmware, or use a kernel with KVM.",
        )
    elif kvm.usable:
        yield Verdict("kvm", Level.NOTE, "KVM works, but ARM servers run under emulation on x86.")
    else:
        here = "is here but cannot be used" if kvm.state is KvmState.UNUSABLE else "is absent"
        yield Verdict("kvm", Level.NOTE, f"KVM {here}{why}: ARM servers run under emulation.")


def dedicated_cpus(cpu: Cpu, dedicated: frozenset[int], settings: Path) -> Verdict | None:
    """What is wrong with the CPUs that `compute.dedicated_cpus` names."""
    if not dedicated or dedicated < cpu.numbers:
        return None
    return Verdict(
        "cpu",
        Level.BAD,
        f"compute.dedicated_cpus in {settings} names CPUs that this machine has not, or all of "
        f"them; it has {','.join(map(str, sorted(cpu.numbers)))}.",
        "Name some of these, and leave at least one to the other servers.",
    )
