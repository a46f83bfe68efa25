"""A fresh Debian machine in namespaces of this one, to try in it what the README tells people.

It has its own root, processes, network (behind NAT), hostname, devices and cgroups; it shares the
kernel, so there is no systemd and no module loading. Everything of it goes away with its process 1,
which dies with this one.

By hand: `python tests/fresh/machine.py trixie -- ./dozen up`, or without a command for a shell.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("DOZEN_FRESH_CACHE", "/var/cache/dozencloud-fresh"))
SUITES = ("bookworm", "trixie")
UBUNTU = {"noble": "http://archive.ubuntu.com/ubuntu"}
"""Other systems that a machine may have -> their mirror."""
UBUNTU_KEYS = (
    "http://archive.ubuntu.com/ubuntu/pool/main/u/ubuntu-keyring/"
    "ubuntu-keyring_2023.11.28.1_all.deb",
    "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8",
)
"""Debian has no package of Ubuntu's keys: address and SHA-256 of Ubuntu's."""
INCLUDE = "ca-certificates,iproute2,mount"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
HOME = "/root/dozencloud"

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NETWORK_VARIABLES = re.compile(
    r"(https?|ftp|all|no)_proxy|PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|"
    r"UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|INSECURE_HOST|HTTP_TIMEOUT)",
    re.IGNORECASE,
)
APT_SETTINGS = re.compile(r"Acquire::(\w+::Proxy(::.*)?|Check-Valid-Until|Check-Date|Retries) ")


class MachineError(Exception):
    """The machine could not be made; says what to install or allow."""


def missing() -> str:
    """Why no fresh machine can be made here, or nothing if it can."""
    if os.geteuid() != 0:
        return "not root"
    tools = ("mmdebstrap", "unshare", "nsenter", "setpriv", "pivot_root", "ip", "nft", "mount")
    lacking = [tool for tool in tools if not shutil.which(tool, path=PATH)]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def base(suite: str) -> Path:
    """The minimal root of a suite, made once (15 s) and never written to."""
    root = CACHE / f"{suite}-{INCLUDE.replace(',', '+')}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if root.exists():
            return root
        half = CACHE / f"{root.name}.half"
        shutil.rmtree(half, ignore_errors=True)
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={INCLUDE}"]
        if suite in UBUNTU:
            command += [f"--keyring={ubuntu_keys()}", "--components=main,universe"]
            command += ["--include=apt"]  # no part of its minbase
        command += [suite, str(half)]
        if mirror := UBUNTU.get(suite) or os.environ.get("DOZEN_FRESH_MIRROR"):
            command.append(mirror)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MachineError(f"mmdebstrap could not make {suite}:\n{done.stderr[-2000:]}")
        half.rename(root)
    return root


def ubuntu_keys() -> Path:
    """The keys that Ubuntu's packages are signed with."""
    address, digest = UBUNTU_KEYS
    with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310  (checked below)
        package = answer.read()
    if hashlib.sha256(package).hexdigest() != digest:
        raise MachineError(f"What {address} sent is not what it was.")
    file, folder = CACHE / "ubuntu-keyring.deb", CACHE / "ubuntu-keyring"
    file.write_bytes(package)
    subprocess.run(["dpkg-deb", "--extract", file, folder], check=True)
    return folder / "usr/share/keyrings/ubuntu-archive-keyring.gpg"


def copy_checkout(source: Path, target: Path) -> None:
    """Copy what a clone of the work tree would hold, uncommitted changes included."""
    listing = subprocess.run(
        ["git", "-C", str(source), "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        ignore = shutil.ignore_patterns("__pycache__", ".git", ".venv", ".*_cache")
        shutil.copytree(source, target, symlinks=True, ignore=ignore)
        return
    target.mkdir()
    for name in filter(None, listing.stdout.split("\0")):
        if not os.path.lexists(source / name):
            continue  # deleted, not yet committed
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name, follow_symlinks=False)


def host_network() -> tuple[dict[str, str], dict[str, str]]:
    """What the host's network asks of a machine behind it: (files, variables)."""
    resolvers = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
    files = {"/etc/resolv.conf": next(p for p in resolvers if p.exists()).read_text()}
    if BUNDLE.exists():
        # Twice: update-ca-certificates, run by a later package, writes the first one anew.
        files[str(BUNDLE)] = BUNDLE.read_text()
        files["/usr/local/share/ca-certificates/host.crt"] = BUNDLE.read_text()
    if (pip := Path("/etc/pip.conf")).exists():
        files["/etc/pip.conf"] = pip.read_text()
    if shutil.which("apt-config"):
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
        settings = [line for line in dump.stdout.splitlines() if APT_SETTINGS.match(line)]
        files["/etc/apt/apt.conf.d/99host"] = "".join(f"{line}\n" for line in settings)
    variables = {k: v for k, v in os.environ.items() if NETWORK_VARIABLES.fullmatch(k)}
    return files, variables


def uplink_mtu() -> str:
    """The MTU of the host's default route: replies that must be cut are lost behind NAT."""
    show = ["ip", "-json", "route", "show", "default"]
    routes = json.loads(subprocess.run(show, capture_output=True, text=True, check=True).stdout)
    if not routes:
        raise MachineError("This host has no default route, so a fresh machine has no network.")
    return Path(f"/sys/class/net/{routes[0]['dev']}/mtu").read_text().strip()


def cgroup_mounts() -> Iterator[Path]:
    """Where the host's cgroup hierarchies are mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mountpoint, kind, options, *_ = line.split()
        if kind in {"cgroup", "cgroup2"} and "ro" not in options.split(","):
            yield Path(mountpoint)


def remove_cgroup(top: Path) -> None:
    """Remove a cgroup and those below it; the kernel needs a moment after the last process."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            for path, _, _ in os.walk(top, topdown=False):
                Path(path).rmdir()
        if not top.exists():
            return
        time.sleep(0.1)


def quiet(*command: str) -> None:
    """Run a clean-up command that may find nothing to do."""
    subprocess.run(command, check=False, capture_output=True)


class Machine:
    """One fresh machine, switched on; use as a context manager, or call `destroy`."""

    def __init__(self, suite: str, workdir: Path, without: Sequence[str] = ()) -> None:
        """without: capabilities that root lacks there; core dumps are forbidden with it."""
        if reason := missing():
            raise MachineError(f"A fresh machine cannot be made here: {reason}.")
        self.suite = suite
        dropped = ",".join(f"-{name}" for name in ("sys_time", *without))
        self._limits = [
            *(("prlimit", "--core=0:0") if without else ()),
            *("setpriv", f"--bounding-set={dropped}"),
        ]
        self.base = base(suite)
        self.state = Path(tempfile.mkdtemp(prefix=f"{suite}-", dir=workdir))
        self.number, self._slot = self._take_slot()
        self.name = f"fresh{self.number}"
        self.gateway, self.address = (f"203.0.113.{4 * self.number + host}" for host in (1, 2))
        self._init: subprocess.Popen[str] | None = None
        self._pid = 0
        self._cgroups: dict[str, str] = {}
        self._files, self._variables = host_network()
        self._files |= {
            "/etc/hostname": f"{self.name}\n",
            "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n{self.address} {self.name}\n",
        }

    @classmethod
    def start(
        cls, suite: str, workdir: Path, checkout: Path = CHECKOUT, without: Sequence[str] = ()
    ) -> Self:
        """Make a machine with the checkout, read-only, in /root/dozencloud and switch it on."""
        machine = cls(suite, workdir, without)
        try:
            copy_checkout(checkout, machine.state / "checkout")
            machine.power_on()
        except BaseException:
            machine.destroy()
            raise
        return machine

    @staticmethod
    def _take_slot() -> tuple[int, Any]:
        """Take a number that no other machine has, by a lock that dies with this process."""
        for number in range(64):
            slot = Path(f"/run/lock/dozencloud-fresh-{number}").open("w")  # noqa: SIM115
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                slot.close()
            else:
                return number, slot
        raise MachineError("64 fresh machines are running on this host already.")

    def power_on(self) -> None:
        """Switch the machine on; its disk is as it was left."""
        self._clean_host()
        for mountpoint in cgroup_mounts():
            ours = mountpoint / self.name
            try:
                ours.mkdir()
                for name in ("cpuset.cpus", "cpuset.mems"):  # cgroup v1 starts them empty
                    if (mountpoint / "tasks").exists() and (ours / name).exists():
                        (ours / name).write_text((mountpoint / name).read_text())
            except OSError:
                continue  # read-only in a container: the machine does without
            self._cgroups[str(mountpoint)] = str(ours)
        plan = {
            "name": self.name,
            "base": str(self.base),
            "state": str(self.state),
            "root": str(self.state / "root"),
            "files": self._files,
            "cgroups": self._cgroups,
            "read_only": {str(self.state / "checkout"): HOME},
        }
        flags = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork"]
        flags += ["--kill-child=KILL", "--propagation=private"]
        init = [sys.executable, "-I", str(Path(__file__).with_name("init.py"))]
        self._init = subprocess.Popen(
            [
                *self._in_cgroups(),
                *self._limits,
                *("setpriv", "--pdeathsig=KILL"),
                "unshare",
                *flags,
                *init,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PATH": PATH},
        )
        assert self._init.stdin is not None
        assert self._init.stdout is not None
        with self._init.stdin as stdin:
            json.dump(plan, stdin)
        with self._init.stdout as stdout:
            answer = stdout.readline().strip()
        if not answer:
            raise MachineError("The machine's root could not be made; the cause is printed above.")
        self._pid = int(answer)
        self._connect()

    def _in_cgroups(self) -> list[str]:
        """A command prefix that moves what follows into the machine's cgroups."""
        script = (
            'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
        )
        return ["sh", "-c", script, "enter", *self._cgroups.values(), "--"]

    def _connect(self) -> None:
        """Give the machine an eth0 behind NAT. Forwarding stays on: others may count on it."""
        peer = "eth0"
        inside = ["nsenter", f"--net=/proc/{self._pid}/ns/net", "ip"]
        pair = ["type", "veth", "peer", "name", peer, "netns", str(self._pid)]
        rules = (
            f"table ip {self.name} {{ chain nat {{ type nat hook postrouting priority 100;"
            f' ip saddr {self.address} oifname != "fresh*" masquerade; }}; }}'
        )
        mtu = uplink_mtu()
        for command in (
            ["ip", "link", "add", self.name, "mtu", mtu, *pair],
            ["ip", "address", "add", f"{self.gateway}/30", "dev", self.name],
            ["ip", "link", "set", self.name, "up"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "address", "add", f"{self.address}/30", "dev", peer],
            [*inside, "link", "set", peer, "mtu", mtu, "up"],
            [*inside, "route", "add", "default", "via", self.gateway],
            ["nft", rules],
        ):
            subprocess.run(command, check=True)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def popen(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command in the machine, as root in the checkout. Options: those of Popen."""
        variables = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
        variables |= self._variables | dict(env or {})
        flags = [f"--target={self._pid}", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
        flags += ["--root", f"--wd=/proc/{self._pid}/root{HOME}"]
        setting = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        options = {"stdin": subprocess.DEVNULL, "text": True, "start_new_session": True} | options
        return subprocess.Popen(
            [*self._in_cgroups(), "nsenter", *flags, *self._limits, *setting, *argv], **options
        )

    def run(
        self,
        argv: Sequence[str],
        timeout: float = 600,
        *,
        env: Mapping[str, str] | None = None,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine and wait; kills it and raises when `timeout` s are over."""
        process = self.popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise subprocess.TimeoutExpired(list(argv), timeout, out, err) from None
            raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and done.returncode:
            raise MachineError(f"{list(argv)} ended {done.returncode}:\n{out[-4000:]}{err[-4000:]}")
        return done

    def processes(self) -> list[str]:
        """The command lines of what runs in the machine, without its process 1."""
        ours = Path(f"/proc/{self._pid}/ns/pid").readlink()
        lines = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if (process / "ns/pid").readlink() == ours and process.name != str(self._pid):
                    lines.append((process / "cmdline").read_text().replace("\0", " ").strip())
        return [line for line in lines if line]

    def kill(self) -> None:
        """Kill every process in the machine at once; it stays switched on."""
        self.run(["sh", "-c", "kill -9 -1"], timeout=30)

    def power_off(self) -> None:
        """Switch the machine off, as if the plug were pulled; the disk stays."""
        if self._init:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._init.pid, signal.SIGKILL)
            self._init.wait()
            self._init = None
        self._clean_host()

    def _clean_host(self) -> None:
        """Remove what the machine of this number has, or an earlier one left, on the host."""
        quiet("ip", "link", "delete", self.name)
        quiet("nft", "delete", "table", "ip", self.name)
        for mountpoint in cgroup_mounts():
            remove_cgroup(mountpoint / self.name)
        self._cgroups = {}

    def destroy(self) -> None:
        """Switch the machine off and remove its disk."""
        self.power_off()
        shutil.rmtree(self.state)
        self._slot.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.destroy()


def main() -> int:
    """Run one command, or a shell, in a new machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("suite", choices=(*SUITES, *UBUNTU))
    parser.add_argument("command", nargs="*", default=["bash"])
    arguments = parser.parse_args()
    term = {"TERM": os.environ.get("TERM", "dumb")}
    with (
        tempfile.TemporaryDirectory(prefix="fresh-", dir="/var/tmp") as workdir,
        Machine.start(arguments.suite, Path(workdir)) as machine,
    ):
        terminal = {"stdin": None, "start_new_session": False}
        return machine.popen(arguments.command, env=term, **terminal).wait()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MachineError as error:
        sys.exit(f"machine.py: {error}")
