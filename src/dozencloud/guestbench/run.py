"""Sends the program to a machine, by SSH or to this one, and reads what it prints."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from shlex import quote
from typing import IO

from dozencloud.errors import Problem
from dozencloud.guestbench import results
from dozencloud.guestbench.results import Machine, Result

PROGRAMS = Path(__file__).parent / "program"
PROGRAM_FOR = {
    "aarch64": "bench-aarch64",
    "armv6l": "bench-arm",
    "armv7l": "bench-arm",
    "armv8l": "bench-arm",
    "riscv64": "bench-riscv64",
    "x86_64": "bench-x86_64",
}
"""`uname -m` -> file. armv8l: a 64-bit kernel that shows itself as a 32-bit one."""

LIMIT = 120
"""Seconds for login and run: the program itself leaves out what does not fit into 40 s."""

MOST_LINES, LONGEST_LINE = 100_000, 4096
"""/proc/cpuinfo of a machine with 1024 processors has 28,000."""

NOT_EXECUTABLE = 126
"""A shell's exit status for a program that it may not start."""

# The program comes by standard input once the architecture is known: one login is enough.
SCRIPT = """
echo "machine $(uname -m)"
echo "kernel $(uname -r)"
echo "paranoid $(cat /proc/sys/kernel/perf_event_paranoid 2>/dev/null)"
sed 's/^/cpuinfo /' /proc/cpuinfo
program=$(mktemp "$HOME/.dozen-bench.XXXXXX") || exit
trap 'rm -f "$program"' EXIT
trap 'exit 129' HUP INT TERM
echo ready
cat >"$program" && chmod 700 "$program" || exit
[ -s "$program" ] || exit
"$program"
"""


@dataclass(frozen=True)
class Login:
    """How a server is reached by SSH. key and known_hosts: None leaves that to ssh."""

    address: str
    user: str
    key: Path | None = None
    known_hosts: Path | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The command line, but for the command."""
        key = ("-i", str(self.key), "-o", "IdentitiesOnly=yes") if self.key else ()
        hosts = ("-o", f"UserKnownHostsFile={self.known_hosts}") if self.known_hosts else ()
        return (
            *("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
            *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4"),
            *("-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR"),
            *(*key, *hosts, f"{self.user}@{self.address}"),
        )


@dataclass(frozen=True)
class Target:
    """A machine to measure. login: None for this one. runs: how it runs, if that is known."""

    name: str
    login: Login | None = None
    runs: str = ""

    @property
    def command(self) -> list[str]:
        if self.login is None:
            return ["sh", "-c", SCRIPT]
        # The user's shell there may be any; the script is for sh.
        return [*self.login.words, f"sh -c {quote(SCRIPT)}"]


def measure(target: Target) -> Result:
    """Run the program there; Problem, in a sentence, if that cannot be done."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            target.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        try:
            result = _converse(target, process)
            process.wait()  # it removes the program
            return result
        except _EndedError:
            process.wait()
            errors.seek(0)
            said = errors.read().strip()
            if process.returncode == -signal.SIGKILL:
                raise Problem(
                    f"{target.name} did not finish within {LIMIT} s.",
                    "See what it is busy with, then run it again.",
                ) from None
            raise why(target, process.returncode, said) from None
        finally:
            timer.cancel()
            process.kill()
            process.wait()


class _EndedError(Exception):
    """The other side went away."""


def _converse(target: Target, process: subprocess.Popen[bytes]) -> Result:
    assert process.stdin and process.stdout  # noqa: S101  (both are pipes)
    lines = _lines(process.stdout)
    greeting = list(takewhile(lambda line: line != "ready", lines))
    machine, paranoid = results.parse_machine(target.name, greeting, target.runs)
    try:
        process.stdin.write(program_for(machine))
        process.stdin.close()
    except BrokenPipeError:
        raise _EndedError from None
    said: list[str] = []
    began = time.monotonic()
    for line in lines:
        said.append(line)
        if line.startswith("dozenbench "):
            began = time.monotonic()
        if line.startswith(("end ", "failed ")):
            return results.parse(machine, paranoid, said, time.monotonic() - began)
    raise _EndedError


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """At most MOST_LINES, without what would upset a terminal; whoever owns a server is free."""
    for _ in range(MOST_LINES):
        if not (line := stream.readline(LONGEST_LINE)):
            break
        text = line.decode(errors="replace").rstrip("\n").replace("\t", " ")
        yield "".join(character for character in text if character.isprintable())
    raise _EndedError


def program_for(machine: Machine) -> bytes:
    """The program, compiled for that machine."""
    try:
        return (PROGRAMS / PROGRAM_FOR[machine.architecture]).read_bytes()
    except KeyError:
        known = ", ".join(sorted(PROGRAM_FOR))
        raise Problem(
            f"{machine.name} is a machine for {machine.architecture or 'nothing that it names'}, "
            "for which there is no measuring program.",
            f"There is one for: {known}.",
        ) from None


def why(target: Target, status: int, said: str) -> Problem:
    """What `said` (standard error) and the exit status of the command mean for a person."""
    name, login = target.name, target.login
    if status == NOT_EXECUTABLE:
        return Problem(
            f"{name} lets no program be started from the home folder.",
            "That file system is mounted noexec: take another --user.",
            detail=said,
        )
    if login is None or status != 255:  # ssh's own failures
        return Problem(
            f"The measuring program did not run to its end on {name} (exit status {status}).",
            "The lines above are what it said last.",
            detail=said,
        )
    for sign, what, mend in _ssh_failures(name, login):
        if sign in said:
            return Problem(what, mend, detail=said)
    return Problem(
        f"SSH to {name} ({login.address}) failed.", "The line above says why.", detail=said
    )


def _ssh_failures(name: str, login: Login) -> Sequence[tuple[str, str, str]]:
    """(what ssh says, what that means, what to do)."""
    where = f"{name} at {login.address}"
    key = f"the key {login.key}" if login.key else "any of your SSH keys"
    hosts = f"-f {login.known_hosts} " if login.known_hosts else ""
    unreachable = (
        f"{where} does not answer.",
        "It may still boot (openstack console log show), or its security groups may not let "
        f"SSH in: openstack server add security group {name} ssh",
    )
    return (
        (
            "Permission denied",
            f"{where} does not take {key} for the user {login.user}.",
            "Name another: --user, --key. Debian's images have the user debian, Ubuntu's ubuntu.",
        ),
        (
            "Host key verification failed",
            f"{where} has another host key than the server that had this address before.",
            f"If that server is gone: ssh-keygen {hosts}-R {login.address}",
        ),
        ("Connection refused", f"{where} runs no SSH server yet.", "Wait until it has booted."),
        ("timed out", *unreachable),
        ("No route to host", *unreachable),
        ("Network is unreachable", *unreachable),
    )
