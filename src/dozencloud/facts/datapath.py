"""What the kernel offers to virtual networks. Loads no module and changes nothing."""

from __future__ import annotations

import fcntl
import gzip
import os
import platform
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dozencloud.facts.run import ask

_TUNGETFEATURES = 0x800454CF  # linux/if_tun.h
_CAP_SYS_MODULE = 16

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETLINK_NETFILTER = 12
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_NFT_MSG_NEWGEN = 10 << 8 | 15
_NFT_MSG_GETGEN = 10 << 8 | 16


class Datapath(StrEnum):
    """Who moves packets in Open vSwitch: the names of its datapath types."""

    SYSTEM = "system"
    NETDEV = "netdev"


@dataclass(frozen=True)
class Network:
    """Whether each part works; where not, `..._reason` says why in half a sentence."""

    datapath: Datapath
    geneve: bool
    """The kernel's own Geneve, by which its Open vSwitch reaches other nodes."""
    vxlan: bool
    """The kernel's own VXLAN, by which it reaches them without Geneve."""
    tun: bool
    tun_reason: str
    namespaces: bool
    namespaces_reason: str
    nftables: bool
    nftables_reason: str


@dataclass(frozen=True)
class Kernel:
    """What a kernel has: in itself, loaded, and on disk with the right to load it."""

    builtin: frozenset[str]
    loaded: frozenset[str]
    loadable: frozenset[str]

    def has(self, module: str) -> bool:
        return module in self.builtin or module in self.loaded or module in self.loadable


def module_names(text: str) -> frozenset[str]:
    """Modules in modules.dep or modules.builtin ("kernel/net/x/foo-bar.ko.zst: …" → foo_bar)."""
    names = (line.partition(":")[0].rpartition("/")[2] for line in text.splitlines())
    return frozenset(name.partition(".ko")[0].replace("-", "_") for name in names if ".ko" in name)


def config_builtin(text: str, option: str) -> bool:
    """Whether a kernel configuration has `option` built in."""
    return f"\nCONFIG_{option}=y\n" in f"\n{text}\n"


def may_load_modules(status: str, disabled: str) -> bool:
    """From /proc/self/status and /proc/sys/kernel/modules_disabled (empty: no modules at all)."""
    if disabled.strip() != "0":
        return False
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_SYS_MODULE & 1)
    return False


def kernel() -> Kernel:
    """Read what the running kernel has; `builtin` only of what we ask for."""
    release = platform.release()
    folder = next(
        (
            path
            for path in (Path("/lib/modules") / release, Path("/usr/lib/modules") / release)
            if path.is_dir()
        ),
        Path("/lib/modules") / release,
    )
    configuration = _configuration(release)
    builtin = set(module_names(_read(folder / "modules.builtin")))
    for option in ("openvswitch", "geneve", "vxlan", "tun"):
        if config_builtin(configuration, option.upper()):
            builtin.add(option)
    loadable: frozenset[str] = frozenset()
    if may_load_modules(_read("/proc/self/status"), _read("/proc/sys/kernel/modules_disabled")):
        loadable = module_names(_read(folder / "modules.dep"))
    loaded = frozenset(line.partition(" ")[0] for line in _read("/proc/modules").splitlines())
    return Kernel(frozenset(builtin), loaded, loadable)


def network() -> Network:
    """Read the facts of this machine."""
    has = kernel().has
    tunnels = has("geneve") or has("vxlan")
    tun_reason = tun_refusal(Path("/dev/net/tun"), loadable=has("tun"))
    namespaces_reason = _namespaces_refusal()
    nftables_reason = _nftables_refusal()
    return Network(
        # The kernel's Open vSwitch makes tunnels with what the kernel has, the other has its own.
        datapath=Datapath.SYSTEM if has("openvswitch") and tunnels else Datapath.NETDEV,
        geneve=has("geneve"),
        vxlan=has("vxlan"),
        tun=not tun_reason,
        tun_reason=tun_reason,
        namespaces=not namespaces_reason,
        namespaces_reason=namespaces_reason,
        nftables=not nftables_reason,
        nftables_reason=nftables_reason,
    )


def tun_refusal(device: Path, *, loadable: bool) -> str:
    """Why no TAP device can be made; empty if one can."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return "" if loadable and os.geteuid() == 0 else f"{device} does not exist"
    except OSError as error:
        return f"{device} cannot be opened: {error.strerror}"
    try:
        fcntl.ioctl(fd, _TUNGETFEATURES, bytearray(4))
    except OSError as error:
        return f"{device} does not answer: {error.strerror}"
    finally:
        os.close(fd)
    return ""


def _namespaces_refusal() -> str:
    if not Path("/proc/self/ns/net").exists():
        return "the kernel has no network namespaces"
    answer = ask("unshare", "--net", "true")
    return "" if answer.ok else (answer.error.strip() or "unshare --net failed")


def _nftables_refusal() -> str:
    """Ask the kernel for the generation of its rules, which needs neither nft nor a table."""
    header = struct.Struct("=IHHII")
    body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
    request = header.pack(header.size + len(body), _NFT_MSG_GETGEN, _NLM_F_REQUEST, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
            link.settimeout(1)
            link.sendto(request, (0, 0))
            reply = link.recv(4096)
    except OSError as error:
        return f"the kernel does not answer: {error.strerror or error}"
    kind = header.unpack_from(reply)[1]
    if kind == _NLMSG_ERROR:
        (code,) = struct.unpack_from("=i", reply, header.size)
        return f"the kernel refuses: {os.strerror(-code)}"
    return "" if kind == _NFT_MSG_NEWGEN else f"the kernel gave an unknown answer ({kind:#x})"


def _configuration(release: str) -> str:
    try:
        return gzip.decompress(Path("/proc/config.gz").read_bytes()).decode(errors="replace")
    except OSError:
        return _read(f"/boot/config-{release}")


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
