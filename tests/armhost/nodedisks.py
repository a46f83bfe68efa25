"""The disks of an emulated Debian machine for ARM that joins a cloud.

As if its packages had been installed and `dozen` had made its environment: both are unpacked here,
and what their scripts would have done, as far as a node needs it, is done in `_finish`.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import disks
from disks import CHECKOUT, INSIDE, PYTHONS, Disks

from dozencloud.cloud.plan import JOINED
from dozencloud.cloud.state import digest
from dozencloud.host.distributions.debian import Debian
from dozencloud.services import needs

BASE = (
    *("apt", "base-files", "base-passwd", "bash", "bsdutils", "busybox-static", "coreutils"),
    *("dash", "debianutils", "diffutils", "dpkg", "findutils", "grep", "gzip", "hostname"),
    *("init-system-helpers", "kmod", "libc-bin", "login", "mawk", "mount", "ncurses-base"),
    *("ncurses-bin", "openssh-server", "passwd", "perl-base", "procps", "python3", "sed"),
    *("sysvinit-utils", "tar", "util-linux"),
)
"""A small Debian that one can log in to."""
DEBIANS = {"bookworm": "12", "trixie": "13"}
"""Release: version, as os-release has it."""
ENVIRONMENTS = Path("/opt/dozencloud")
"""Where the launcher looks for its environments; the machine has the Python disk there."""

CHRONY = 101
"""Its user and group."""
ACCOUNTS = {
    "passwd": (
        f"_chrony:x:{CHRONY}:{CHRONY}::/var/lib/chrony:/usr/sbin/nologin\n"
        "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        "libvirt-qemu:x:64055:994:QEMU:/var/lib/libvirt:/usr/sbin/nologin\n"
    ),
    "group": f"_chrony:x:{CHRONY}:\nkvm:x:994:\nlibvirt:x:995:\nlibvirt-qemu:x:64055:\n",
}
"""Of the packages' scripts, besides Debian's first ones."""
LINKS = {
    "etc/mtab": "/proc/self/mounts",
    "usr/bin/awk": "mawk",
    "usr/sbin/ovs-vswitchd": "/usr/lib/openvswitch-switch/ovs-vswitchd",
    "var/lock": "/run/lock",
    "var/run": "/run",
}
"""Of the packages' scripts: alternatives, and what base-files makes."""


def suite_of(made: Disks) -> str:
    """The release on the disks."""
    return next(suite for suite, python in PYTHONS.items() if python == made.python_version)


@dataclass(frozen=True)
class Environment:
    """The environment that the launcher of this checkout looks for. source: of its own code."""

    path: Path
    source: str


DEBIAN = '. "$checkout/bootstrap/distributions/debian.sh"'
"""To the launcher: what the emulated machine has."""


def _launcher(script: str, *words: str) -> str:
    """What the launcher's own code says. words: $1 and on of the script."""
    return subprocess.run(
        ["sh", "-euc", f'. "$checkout/bootstrap/environment.sh"; {script}', "sh", *words],
        env={"PATH": "/usr/bin:/bin", "checkout": str(CHECKOUT)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def environment(suite: str) -> Environment:
    """Asked of the launcher's own code."""
    script = 'python=$1; find_environment "$2" env; printf "%s\\n%s" "$environment" "$source_hash"'
    said = _launcher(script, f"/usr/bin/python{PYTHONS[suite]}", str(ENVIRONMENTS))
    path, source = said.split("\n")
    return Environment(Path(path), source)


def build(
    architecture: str,
    suite: str,
    uv: str,
    say: Callable[[str], None],
    cache: Path = disks.CACHE,
) -> Disks:
    """What does not change from run to run, from the cache where it is there.

    architecture: the kernel's name of it, aarch64 or armv7l.
    """
    wanted = Debian(DEBIANS[suite]).wanted(architecture, needs(JOINED, time=True))
    if architecture == "armv7l":
        wanted += tuple(_launcher(f'{DEBIAN}; echo "$armhf_packages"').split())
    kind = disks.System(
        "node-system",
        (*BASE, *wanted),
        _finish_board if architecture == "armv7l" else _finish,
        architecture,
        known={"accounts": ACCOUNTS, "links": LINKS},
        spare_mib=6144,
    )
    system = disks.system(kind, suite, cache, say)
    python = _environment_disk(architecture, suite, uv, cache, say)
    return Disks.of(system, python / "python.img", suite)


def _finish(root: Path, release: str, files: Sequence[Path]) -> None:
    """What the packages' scripts would have done."""
    for name in ("passwd", "group"):
        first = (root / "usr/share/base-passwd" / f"{name}.master").read_text()
        (root / "etc" / name).write_text(first + ACCOUNTS[name])
    shadow = root / "etc/shadow"
    shadow.write_text("root:*:19000:0:99999:7:::\n")
    shadow.chmod(0o600)
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    for name, target in LINKS.items():
        link = root / name
        if link.is_dir():
            shutil.rmtree(link)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    for file in (root / "usr/share/chrony").iterdir():
        shutil.copy(file, root / "etc/chrony")
    for folder in (root / "var/lib/chrony", root / "var/log/chrony"):
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, CHRONY, CHRONY)
    (root / "boot" / f"System.map-{release}").unlink(missing_ok=True)
    disks.run(["/usr/sbin/depmod", "--basedir", str(root), release], "the list of modules")
    _tell_dpkg(root, files)


def _finish_board(root: Path, release: str, files: Sequence[Path]) -> None:
    """As `_finish`; its kernel has Open vSwitch and VXLAN, but no Geneve, as Raspberry Pi's."""
    (root / "usr/lib/modules" / release / "kernel/drivers/net/geneve.ko").unlink()
    _finish(root, release, files)


def _tell_dpkg(root: Path, files: Sequence[Path]) -> None:
    """The list of what is installed, and which files each package brought."""
    paragraphs = []
    for file in files:
        fields = _dpkg_deb("--field", file)
        name, rest = fields.split("\n", 1)
        paragraphs.append(f"{name}\nStatus: install ok installed\n{rest}")
        # Of a line of `tar tv` the sixth word and on; a link's target follows its name.
        brought = [line.split(maxsplit=5)[5] for line in _dpkg_deb("--contents", file).splitlines()]
        names = "".join(
            f"{each.partition(' -> ')[0][1:].rstrip('/') or '/.'}\n" for each in brought
        )
        package = name.removeprefix("Package: ")
        (root / "var/lib/dpkg/info" / f"{package}.list").write_text(names)
    (root / "var/lib/dpkg/status").write_text("\n".join(paragraphs))


def _dpkg_deb(option: str, file: Path) -> str:
    return subprocess.run(
        ["dpkg-deb", option, str(file)], check=True, capture_output=True, text=True
    ).stdout


def _environment_disk(
    architecture: str, suite: str, uv: str, cache: Path, say: Callable[[str], None]
) -> Path:
    """A disk with the environment, but for this checkout's own code."""
    version, name = PYTHONS[suite], environment(suite).path.name
    install = {"aarch64": _install_arm64, "armv7l": _install_armhf}[architecture]

    def fill(folder: Path, work: Path) -> None:
        say(f"fetching OpenStack and its libraries for {architecture} and Python {version}")
        top = work / "tree" / name
        site = top / f"lib/python{version}/site-packages"
        install(uv, version, site, work)
        for part in ("bin", "etc", "share"):
            if (site / part).exists():
                (site / part).rename(top / part)
        (top / "bin/python").symlink_to("/usr/bin/python3")
        (top / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
        (top / ".dependencies").write_text("env\n")
        say("making the Python disk")
        disks.compile_bytecode(site, version)
        disks.disk(folder / "python.img", work / "tree", spare_mib=64)

    recipe = {"name": name, "architecture": architecture}
    return disks.cached(cache, f"environment-{architecture}-{version}", recipe, fill)


def _pins(uv: str, target: Path, *without: str) -> Path:
    """The lock file as a list of requirements with hashes."""
    command = [
        *(uv, "export", "--quiet", "--project", str(CHECKOUT), "--frozen", "--no-dev"),
        *(word for name in without for word in ("--no-emit-package", name)),
        *("--no-emit-project", "--output-file", str(target)),
    ]
    disks.run(command, "the list of pins")
    return target


def _install_arm64(uv: str, version: str, site: Path, work: Path) -> None:
    command = [
        *(uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes"),
        # No later than the glibc of the oldest Debian here, 2.36.
        *("--python-platform", "aarch64-manylinux_2_36", "--python-version", version),
        *("--target", str(site), "--requirements", str(_pins(uv, work / "pins.txt"))),
    ]
    disks.run(command, "the Python environment")


def _install_armhf(uv: str, version: str, site: Path, work: Path) -> None:
    """By pip, since uv knows no 32-bit ARM but where it runs. Debian's modules are linked there."""
    ready, unused, sdists = (
        _launcher(f'{DEBIAN}; echo "${name}"').split()
        for name in ("armhf_modules", "armhf_unused", "sdists")
    )
    pins = _pins(uv, work / "pins.txt", *ready, *unused, *sdists)
    (pip,) = Path("/usr/share/python-wheels").glob("pip-*.whl")
    command = [
        *(sys.executable, "-I", str(pip / "pip"), "install", "--quiet", "--no-deps"),
        *("--disable-pip-version-check", "--no-compile", "--only-binary", ":all:"),
        *("--require-hashes", "--requirement", str(pins), "--target", str(site)),
        *("--python-version", version),
        # PEP 600: a wheel for an older glibc runs with a newer one; Debian 12 has 2.36.
        *(
            word
            for minor in range(17, 37)
            for word in ("--platform", f"manylinux_2_{minor}_armv7l")
        ),
    ]
    disks.run(command, "the Python environment")
    exact = [
        line.split(" ", 1)[0]
        for line in _pins(uv, work / "all-pins.txt").read_text().splitlines()
        if line.partition("==")[0] in sdists
    ]
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--target", str(site), *exact]
    disks.run(command, "what has no wheel")


def work_disk(folder: Path, suite: str, network: Mapping[str, str], key: Path) -> Path:
    """A disk with this checkout, its code for the environment, and the way in.

    network: shell variables of the machine's start: its name, its address with the length of the
        prefix, its gateway.   key: private; its public part lies beside it.
    """
    tree = folder / "tree"
    checkout = tree / "dozencloud"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("bootstrap", "src"):
        shutil.copytree(CHECKOUT / name, checkout / name, ignore=ignored)
    for name in ("dozen", "pyproject.toml", "LICENSE", "NOTICE", "uv.lock"):
        shutil.copy(CHECKOUT / name, checkout)
    _own_code(tree / "environment", suite)
    (tree / "inside").mkdir()
    shutil.copy(INSIDE / "start-node", tree / "inside/start")
    (tree / "network").write_text("".join(f"{name}={value}\n" for name, value in network.items()))
    shutil.copy(f"{key}.pub", tree / "authorized_keys")
    host_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", network["name"]]
    disks.run([*host_key, "-f", str(tree / "host_key")], "a key")
    work = disks.disk(folder / "work.img", tree, spare_mib=64)
    shutil.rmtree(tree)
    return work


def _own_code(tree: Path, suite: str) -> None:
    """What the launcher would put into the environment."""
    wanted, version = environment(suite), PYTHONS[suite]
    site = tree / f"lib/python{version}/site-packages"
    site.mkdir(parents=True)
    runpy.run_path(str(CHECKOUT / "bootstrap/package.py"))["install"](CHECKOUT, site)
    disks.compile_bytecode(site, version)
    stamp = f"{wanted.source}\n"
    (tree / ".package").write_text(stamp)
    (tree / ".bytecode").write_text(digest(b"env\n", stamp.encode()))
