"""What a process and all that it starts cannot do: dangerous system calls, and become more.

The list of system calls becomes a filter by libseccomp, which knows their numbers on every machine;
apt and systemd need that library, so it is on every system of ours.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Self

_PR_SET_SECCOMP = 22
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

CAPABILITIES = {
    "chown": 0,
    "dac_override": 1,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "net_bind_service": 10,
    "sys_resource": 24,
}
"""Numbers of those that a service may keep (linux/capability.h)."""

DANGEROUS: tuple[str, ...] = (
    # As systemd groups them (systemd.exec(5), SystemCallFilter). @clock
    *("adjtimex", "clock_adjtime", "clock_adjtime64", "clock_settime", "clock_settime64"),
    *("settimeofday", "stime"),
    # @debug, and other processes' memory
    *("kcmp", "lookup_dcookie", "perf_event_open", "pidfd_getfd", "process_vm_readv"),
    *("process_vm_writev", "ptrace"),
    # @module
    *("create_module", "delete_module", "finit_module", "init_module", "query_module"),
    # @mount, and namespaces
    *("chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr"),
    *("move_mount", "open_tree", "pivot_root", "setns", "umount", "umount2", "unshare"),
    # @raw-io
    *("ioperm", "iopl", "pciconfig_iobase", "pciconfig_read", "pciconfig_write"),
    # @reboot, @swap
    *("kexec_file_load", "kexec_load", "reboot", "swapoff", "swapon"),
    # @obsolete
    *("_sysctl", "afs_syscall", "bdflush", "nfsservctl", "sysfs", "uselib", "ustat", "vserver"),
    # @cpu-emulation, @keyring
    *("modify_ldt", "vm86", "vm86old", "add_key", "keyctl", "request_key"),
    # By which kernels were taken over; io_uring also goes around this filter.
    *("acct", "bpf", "fanotify_init", "io_uring_enter", "io_uring_register", "io_uring_setup"),
    *("open_by_handle_at", "quotactl", "quotactl_fd", "userfaultfd", "vhangup"),
)
"""System calls that no service of ours needs; answered with EPERM."""

_NEW_NAMESPACES = tuple(1 << bit for bit in (17, *range(25, 31)))
"""CLONE_NEW* of linux/sched.h: what clone(2) must not be asked for."""
_FAMILIES = (1, 2, 10, 16)
"""Sockets that are not refused: Unix, IPv4, IPv6, netlink (which address this machine has)."""
_LAST_FAMILY = 63
"""Beyond the largest of linux/socket.h (45)."""


CONFINED = "DOZEN_CONFINED"
"""In the configuration of a program: how it is confined; never in its environment."""


@dataclass(frozen=True)
class Unconfined:
    """A service that needs what others must not have. why: for people."""

    why: str


@dataclass(frozen=True)
class Confinement:
    """How a service is confined.

    capabilities: that a service of root's keeps, and can get; those of other users have none.
    calls: dangerous system calls that it needs all the same.
    """

    capabilities: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()

    def to_text(self) -> str:
        """For the environment of a service."""
        return ";".join((",".join(self.capabilities), ",".join(self.calls)))

    @classmethod
    def from_text(cls, text: str) -> Self:
        capabilities, _, calls = text.partition(";")
        return cls(
            tuple(filter(None, capabilities.split(","))), tuple(filter(None, calls.split(",")))
        )

    def enter(self) -> None:
        """Confine this process, for good. OSError if the kernel does not do it."""
        if os.geteuid() == 0:
            drop_capabilities(self.capabilities)
        forbid_new_privileges()
        install(all_but(self.calls))


ORDINARY = Confinement()
"""A user of its own, and nothing else."""


# ---- capabilities and privileges ----------------------------------------------------------


def drop_capabilities(kept: Iterable[str] = ()) -> None:
    """No program that this process executes gets other capabilities (capabilities(7))."""
    numbers = {CAPABILITIES[name] for name in kept}
    for number in range(64):
        there = _libc().prctl(_PR_CAPBSET_READ, number, 0, 0, 0)
        if there < 0:
            return  # the kernel has no more
        if there and number not in numbers:
            _prctl(_PR_CAPBSET_DROP, number)


def forbid_new_privileges() -> None:
    """No program that it executes is more than it is itself: setuid counts for nothing."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


# ---- system calls -------------------------------------------------------------------------


def install(program: bytes) -> None:
    """Have the kernel ask this filter at each system call of this thread, and what it starts."""
    code = ctypes.create_string_buffer(program, len(program))
    table = _Program(len(program) // 8, ctypes.addressof(code))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(table))


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@cache
def all_but(needed: tuple[str, ...] = ()) -> bytes:
    """A filter that refuses what is DANGEROUS, except what is needed."""
    if unknown := set(needed) - set(DANGEROUS):
        raise ValueError(f"not among the dangerous system calls: {', '.join(sorted(unknown))}")
    rules = [_Rule(name) for name in DANGEROUS if name not in needed]
    if "unshare" not in needed:
        rules += [_Rule("clone", first=(_MASKED_EQUAL, flag, flag)) for flag in _NEW_NAMESPACES]
    # Its flags are in memory, where no filter sees them; libc then does with clone(2).
    rules.append(_Rule("clone3", error=errno.ENOSYS))
    rules += [
        _Rule("socket", errno.EAFNOSUPPORT, first=(_EQUAL, family, 0))
        for family in range(_LAST_FAMILY + 1)
        if family not in _FAMILIES
    ]
    return _compiled(_ALLOW, rules)


def only(names: Iterable[str]) -> bytes:
    """A filter that refuses all but these calls; those that this machine has not do not count."""
    return _compiled(_refuse(errno.EPERM), [_Rule(name, allow=True) for name in names])


_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_MASKED_EQUAL, _EQUAL = 7, 4
_BAD_ARCHITECTURE, _OPTIMIZE = 2, 8  # enum scmp_filter_attr


def _refuse(error: int) -> int:
    return 0x00050000 | error


@dataclass(frozen=True)
class _Rule:
    """One system call. first: how its first argument must be (operator, two values)."""

    name: str
    error: int = errno.EPERM
    first: tuple[int, int, int] | None = None
    allow: bool = False


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp (seccomp.h)."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def _compiled(default: int, rules: Iterable[_Rule]) -> bytes:
    """The filter's instructions for the kernel of this machine (struct sock_filter)."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    add = library.seccomp_rule_add_array
    add.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
    context = library.seccomp_init(default)
    if not context:
        raise OSError(errno.ENOMEM, "libseccomp makes no filter")
    try:
        library.seccomp_attr_set(context, _BAD_ARCHITECTURE, _KILL_PROCESS)
        library.seccomp_attr_set(context, _OPTIMIZE, 2)  # a tree; it is not in versions before 2.5
        for rule in rules:
            number = library.seccomp_syscall_resolve_name(rule.name.encode())
            if number < 0:
                continue  # another machine's, or newer than the library
            compared = _Comparison(0, *rule.first) if rule.first else _Comparison()
            action = _ALLOW if rule.allow else _refuse(rule.error)
            count = 1 if rule.first else 0
            if (failed := add(context, action, number, count, ctypes.byref(compared))) < 0:
                raise OSError(-failed, f"libseccomp takes no rule for {rule.name}")
        file = os.memfd_create("filter")
        try:
            if (failed := library.seccomp_export_bpf(context, file)) < 0:
                raise OSError(-failed, "libseccomp writes no filter")
            return os.pread(file, os.fstat(file).st_size, 0)
        finally:
            os.close(file)
    finally:
        library.seccomp_release(context)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int, pointer: object = 0) -> None:
    if _libc().prctl(option, value, pointer, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
