"""What a confined process cannot do, tried by one."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dozencloud.host import confinement
from dozencloud.host.confinement import CAPABILITIES, DANGEROUS, ORDINARY, Confinement
from dozencloud.images.inspection import cage

CLONE_NEWUSER = 0x10000000


def confined(how: Confinement, work: Callable[[], Any]) -> Any:
    """What `work` returns in a child that is confined so."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            how.enter()
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    return json.loads(said)


def called(name: str, *arguments: object) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    failed = getattr(libc, name)(*arguments) < 0
    return errno.errorcode[ctypes.get_errno()] if failed else "done"


def status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def made(family: int) -> str:
    try:
        socket.socket(family, socket.SOCK_SEQPACKET if family == socket.AF_ALG else socket.SOCK_RAW)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def test_dangerous_calls_are_refused_and_ordinary_work_goes_on() -> None:
    def work() -> dict[str, str]:
        ran = subprocess.run(
            [sys.executable, "-c", "print(6 * 7)"], check=True, capture_output=True
        )
        with socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET):
            pass
        return {
            "unshare": called("unshare", CLONE_NEWUSER),
            "mount": called("mount", b"none", b"/mnt", b"tmpfs", 0, None),
            "ptrace": called("ptrace", 0, 0, 0, 0),
            "chroot": called("chroot", b"/"),
            "alg": made(socket.AF_ALG),
            "packet": made(socket.AF_PACKET),
            "program": ran.stdout.decode(),
            "privileges": status()["NoNewPrivs"],
            "filter": status()["Seccomp"],
            "bounds": status()["CapBnd"] if os.geteuid() == 0 else "0" * 16,
        }

    assert confined(ORDINARY, work) == {
        **dict.fromkeys(("unshare", "mount", "ptrace", "chroot"), "EPERM"),
        **dict.fromkeys(("alg", "packet"), "EAFNOSUPPORT"),
        "program": "42\n",
        "privileges": "1",
        "filter": "2",
        "bounds": "0" * 16,
    }


def test_threads_and_programs_of_a_confined_one_are_confined() -> None:
    program = "import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))"

    def work() -> str:
        words = [sys.executable, "-c", program]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    assert confined(ORDINARY, work) == "-1\n"


def test_what_a_service_needs_is_left_to_it() -> None:
    how = Confinement(capabilities=("kill",), calls=("unshare", "chroot"))
    said = confined(how, lambda: (called("unshare", 0), called("mount", b"", b"", b"", 0, None)))
    assert said == ["done", "EPERM"]
    if os.geteuid() == 0:
        assert int(confined(how, lambda: status()["CapBnd"]), 16) == 1 << CAPABILITIES["kill"]


def test_it_survives_the_way_through_the_supervisors_settings() -> None:
    for how in (ORDINARY, Confinement(("kill", "chown"), ("unshare",)), Confinement((), ("bpf",))):
        assert Confinement.from_text(how.to_text()) == how


def test_a_call_that_is_not_dangerous_cannot_be_an_exception() -> None:
    with pytest.raises(ValueError, match="getpid"):
        confinement.all_but(("getpid",))


def test_no_call_is_listed_twice() -> None:
    assert len(DANGEROUS) == len(set(DANGEROUS))


def test_the_library_knows_nearly_all_of_them_here() -> None:
    """A name that is spelled wrong would be no rule at all."""
    library = ctypes.CDLL("libseccomp.so.2")
    unknown = [n for n in DANGEROUS if library.seccomp_syscall_resolve_name(n.encode()) == -1]
    assert unknown == []
    assert [n for n in cage._CALLS if library.seccomp_syscall_resolve_name(n.encode()) < 0] == []
