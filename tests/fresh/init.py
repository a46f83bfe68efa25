"""Process 1 of a fresh machine: makes its root out of the plan on standard input, then reaps.

`machine.py` starts this in new namespaces, with the host's own Python, because a fresh machine has
none. It uses the host's programs until `pivot_root`; after that only what is already in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

DEVICES = (
    *("null", "zero", "full", "random", "urandom", "tty", "kmsg"),
    *("kvm", "fuse", "net/tun", "vhost-net", "vhost-vsock", "loop-control"),
    *(f"loop{number}" for number in range(8)),
)


def mount(*arguments: str | Path) -> None:
    """Call mount(8)."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def make_root(root: Path, base: Path, state: Path) -> None:
    """Lay a writable root over the base; copy it where overlayfs cannot be stacked."""
    upper, work = state / "upper", state / "work"
    for path in (root, upper, work):
        path.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={base},upperdir={upper},workdir={work}"
    overlay = ["mount", "-t", "overlay", "overlay", "-o", options, str(root)]
    if subprocess.run(overlay, check=False, capture_output=True).returncode == 0:
        return
    if not (root / "usr").exists():
        subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", str(root)], check=True)
    mount("--bind", root, root)


def make_devices(dev: Path) -> None:
    """Make device nodes of our own, so that a chmod in the machine never reaches the host's."""
    mount("-t", "tmpfs", "-o", "mode=755,size=1m", "dev", dev)
    for name in DEVICES:
        host = Path("/dev") / name
        if not host.exists():
            continue
        (dev / name).parent.mkdir(exist_ok=True)
        status = host.stat()
        os.mknod(dev / name, status.st_mode, status.st_rdev)
        (dev / name).chmod(stat.S_IMODE(status.st_mode))
    for directory, kind, options in (
        ("pts", "devpts", "newinstance,ptmxmode=666,mode=620,gid=5"),
        ("shm", "tmpfs", "mode=1777"),
        ("mqueue", "mqueue", "nosuid"),
    ):
        (dev / directory).mkdir()
        mount("-t", kind, "-o", options, kind, dev / directory)
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd"}
    links |= {name: f"/proc/self/fd/{n}" for n, name in enumerate(("stdin", "stdout", "stderr"))}
    for name, target in links.items():
        (dev / name).symlink_to(target)


def make_kernel_views(root: Path, cgroups: dict[str, str]) -> None:
    """Mount /proc, /sys and /run, and the machine's own part of every cgroup hierarchy."""
    mount("-t", "proc", "proc", root / "proc")
    mount("-t", "sysfs", "sysfs", root / "sys")
    mount("-t", "tmpfs", "-o", "mode=755", "run", root / "run")
    (root / "run/lock").mkdir(mode=0o1777)
    top = "/sys/fs/cgroup"
    if cgroups and top not in cgroups:
        mount("-t", "tmpfs", "-o", "mode=755", "cgroup", root / top[1:])
    for mountpoint, ours in cgroups.items():
        target = root / mountpoint[1:]
        target.mkdir(exist_ok=True)
        mount("--bind", ours, target)


def write_files(root: Path, files: dict[str, str]) -> None:
    """Write the files that the host's network asks for."""
    for name, content in files.items():
        path = root / name[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(content)


def enter(root: Path) -> None:
    """Make `root` this process's / and let go of the host's."""
    os.chdir(root)
    subprocess.run(["pivot_root", ".", "."], check=True)
    subprocess.run(["umount", "-l", "."], check=True)
    os.chdir("/")


def reap() -> None:
    """Wait for orphans until the machine is switched off."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        signal.sigwait({signal.SIGCHLD})


def main() -> None:
    """Build the root, say our process id as the host knows it, stay."""
    plan: dict[str, Any] = json.load(sys.stdin)
    host_pid = Path("/proc/self").readlink()  # /proc is still the host's
    root = Path(plan["root"])
    make_root(root, Path(plan["base"]), Path(plan["state"]))
    write_files(root, plan["files"])
    make_kernel_views(root, plan["cgroups"])
    make_devices(root / "dev")
    for source, name in plan["read_only"].items():
        target = root / name[1:]
        target.mkdir(parents=True, exist_ok=True)
        mount("--bind", source, target)
        mount("-o", "remount,bind,ro", target)
    socket.sethostname(plan["name"])
    enter(root)
    print(host_pid, flush=True)
    os.close(1)
    Path("/proc/self/comm").write_text("init")
    reap()


if __name__ == "__main__":
    main()
