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

from dozencloud.host import confinement
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
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_ALL_FILES = (1 << 13) - 1
"""Every right of its first version (linux/landlock.h)."""
_CAPABILITY_VERSION_3 = 0x20080522


_MACHINES = ("x86_64", "aarch64")
"""Where the list of calls was tried; 32-bit ones have other calls."""
_CALLS = (
    *("brk", "clock_gettime", "close", "exit", "exit_group", "fcntl", "fstat", "futex"),
    *("getpid", "getrusage", "getrandom", "gettid", "gettimeofday", "lseek", "madvise"),
    *("mmap", "mprotect", "mremap", "munmap", "pread64", "pwrite64", "read", "readv"),
    *("restart_syscall", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
    *("write", "writev"),
)
"""System calls that reading needs."""

_libc = ctypes.CDLL(None, use_errno=True)


def confine(seconds: int) -> None:
    """Lock this process in for good. seconds: of processor time that it may use.

    What it will need must be imported and opened before.
    """
    calls = _reading_only()  # opens a library
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
    if _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    confinement.forbid_new_privileges()
    _forbid_paths()
    if calls:
        confinement.install(calls)


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


def _forbid_paths() -> None:
    """Landlock rules that allow nothing; no error where the kernel lacks it."""
    handled = ctypes.create_string_buffer(struct.pack("Q", _LANDLOCK_ALL_FILES), 8)
    rules = _libc.syscall(_LANDLOCK_CREATE_RULESET, handled, ctypes.c_size_t(8), 0)
    if rules >= 0:
        _libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0)
        os.close(rules)


def _reading_only() -> bytes:
    """The filter of system calls; empty where there is no list."""
    # A 32-bit program under a 64-bit kernel has other calls than the machine's name says.
    listed = platform.machine() in _MACHINES and sys.maxsize > 1 << 32
    return confinement.only(_CALLS) if listed else b""
