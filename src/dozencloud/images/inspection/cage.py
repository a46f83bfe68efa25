"""Locking this process in: what it has open it may read, and that is all it may do.

Several walls, since not every kernel and not every user has each of them: limits on resources;
an empty root directory, a network namespace and the user nobody (as root, or where the kernel
lets users have namespaces); no access to paths (Landlock); and a list of the few system calls
that reading needs (seccomp).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
import tempfile
from pathlib import Path

from dozencloud.images.inspection.streams import MAX_UNPACKED

NOBODY = 65534
MEMORY = 1 << 30
"""Bytes of address space: 200 MiB are used at most, libraries reserve several times as much."""
FILES = 16
"""Descriptors: the image, the work file, three pipes."""

_CLONE_NEWNS = 0x00020000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_ALL_FILES = (1 << 13) - 1
"""Every right of its first version (linux/landlock.h)."""
_CAPABILITY_VERSION_3 = 0x20080522


_AUDIT_ARCHS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of linux/audit.h; on other machines there is no list of calls."""
_CALLS = {
    "brk": (12, 214),
    "clock_gettime": (228, 113),
    "close": (3, 57),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "fcntl": (72, 25),
    "fstat": (5, 80),
    "futex": (202, 98),
    "getpid": (39, 172),
    "getrusage": (98, 165),
    "getrandom": (318, 278),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "lseek": (8, 62),
    "madvise": (28, 233),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "read": (0, 63),
    "readv": (19, 65),
    "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "write": (1, 64),
    "writev": (20, 66),
}
"""System calls that reading needs, with their numbers on x86_64 and aarch64."""

_libc = ctypes.CDLL(None, use_errno=True)


def confine(seconds: int) -> None:
    """Lock this process in for good. seconds: of processor time that it may use.

    What it will need must be imported and opened before.
    """
    _limit(seconds)
    if os.geteuid() == 0:
        _unshare(_CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC)
        _leave_files()
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    else:
        # Kernels and distributions differ on whether users may do so: the other walls remain.
        with contextlib.suppress(OSError):
            _unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC)
            _leave_files()
            _drop_capabilities()
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _forbid_paths()
    _forbid_calls()


def _limit(seconds: int) -> None:
    limits = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_FSIZE: MAX_UNPACKED,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def _leave_files() -> None:
    """Take an empty directory as root, removed already: nothing can be made in it."""
    path = Path(tempfile.mkdtemp(prefix="inspection-"))
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    path.rmdir()
    os.fchdir(root)
    os.close(root)
    os.chroot(".")


def _drop_capabilities() -> None:
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), 8)
    if _libc.capset(header, ctypes.create_string_buffer(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _prctl(option: int, value: int, pointer: object = 0) -> None:
    if _libc.prctl(option, value, pointer, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _forbid_paths() -> None:
    """Landlock rules that allow nothing; no error where the kernel lacks it."""
    handled = ctypes.create_string_buffer(struct.pack("Q", _LANDLOCK_ALL_FILES), 8)
    rules = _libc.syscall(_LANDLOCK_CREATE_RULESET, handled, ctypes.c_size_t(8), 0)
    if rules >= 0:
        _libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0)
        os.close(rules)


def _forbid_calls() -> None:
    """Answer EPERM to every system call that is not in the list (seccomp(2), linux/filter.h)."""
    machine = platform.machine()
    # A 32-bit program under a 64-bit kernel has other numbers than the machine's name says.
    if machine not in _AUDIT_ARCHS or sys.maxsize < 1 << 32:
        return
    calls = [numbers[list(_AUDIT_ARCHS).index(machine)] for numbers in _CALLS.values()]
    load, jump_equal, give = 0x20, 0x15, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000
    program = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (jump_equal, 1, 0, _AUDIT_ARCHS[machine]),
        (give, 0, 0, kill),
        (load, 0, 0, 0),  # seccomp_data.nr
        *((jump_equal, len(calls) - n, 0, call) for n, call in enumerate(calls)),
        (give, 0, 0, refuse),
        (give, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    table = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)), 16
    )
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, table)
