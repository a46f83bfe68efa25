"""Memory, disk, firmware, and what the kernel offers to networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from dozencloud.facts.datapath import (
    Kernel,
    config_builtin,
    may_load_modules,
    module_names,
    tun_refusal,
)
from dozencloud.facts.firmware import Firmware, first_present
from dozencloud.facts.kvm import Kvm, KvmState, kvm, only_for_root
from dozencloud.facts.memory import Memory, disk, parse_meminfo
from dozencloud.facts.selinux import enforcing

RASPBERRY_PI_4 = """\
MemTotal:        3882988 kB
MemFree:         1742228 kB
MemAvailable:    3412232 kB
Buffers:           51724 kB
Active(anon):     241404 kB
SwapTotal:        102396 kB
HugePages_Total:       0
"""


def test_meminfo() -> None:
    assert parse_meminfo(RASPBERRY_PI_4) == Memory(total=3791, available=3332, swap=99)
    assert parse_meminfo("") == Memory(0, 0, 0)


def test_disk_is_measured_at_the_nearest_parent(tmp_path: Path) -> None:
    found = disk(tmp_path / "not" / "there" / "yet")
    assert found.path == tmp_path / "not" / "there" / "yet"
    assert found.at == tmp_path
    assert 0 < found.free <= found.total


def test_firmware_needs_both_halves(tmp_path: Path) -> None:
    pairs = [(tmp_path / f"code{n}", tmp_path / f"vars{n}") for n in (1, 2)]
    assert first_present(pairs) is None
    for path in (pairs[0][0], *pairs[1]):
        path.touch()
    assert first_present(pairs) == Firmware(*pairs[1])


def test_selinux(tmp_path: Path) -> None:
    enforce = tmp_path / "enforce"
    assert not enforcing(enforce)
    for text, says in (("0", False), ("1", True)):
        enforce.write_text(text)
        assert enforcing(enforce) is says


def test_kvm_absent_or_something_else(tmp_path: Path) -> None:
    missing = tmp_path / "kvm"
    assert kvm(missing) == Kvm(KvmState.ABSENT, f"{missing} does not exist")
    found = kvm(Path("/dev/null"))
    assert (found.state, found.usable) == (KvmState.UNUSABLE, False)
    assert found.reason.startswith("it does not answer as KVM")


@pytest.mark.parametrize(
    ("mode", "group", "only"),
    [
        (0o20600, 0, True),
        (0o20660, 0, True),
        (0o20660, 112, False),  # udev's rule: group kvm
        (0o20640, 112, True),
        (0o20666, 0, False),
    ],
)
def test_kvm_for_root_only(mode: int, group: int, only: bool) -> None:
    assert only_for_root(mode, group) is only


MODULES_DEP = """\
kernel/net/openvswitch/openvswitch.ko: kernel/net/nsh/nsh.ko kernel/net/netfilter/nf_nat.ko
kernel/net/openvswitch/vport-geneve.ko.zst: kernel/drivers/net/geneve.ko.zst
kernel/drivers/net/geneve.ko.xz:
"""


def test_module_names() -> None:
    assert module_names(MODULES_DEP) == {"openvswitch", "vport_geneve", "geneve"}
    assert module_names("kernel/drivers/net/tun.ko\nkernel/fs/ext4/ext4.ko\n") == {"tun", "ext4"}
    assert module_names("") == frozenset()


def test_kernel_has() -> None:
    kernel = Kernel(frozenset({"tun"}), frozenset({"geneve"}), frozenset({"openvswitch"}))
    assert all(map(kernel.has, ("tun", "geneve", "openvswitch")))
    assert not kernel.has("nft_fib")


def test_config() -> None:
    text = "CONFIG_TUN=y\n# CONFIG_OPENVSWITCH is not set\nCONFIG_GENEVE=m\nCONFIG_TUN_VNET=y"
    assert config_builtin(text, "TUN")
    assert not config_builtin(text, "OPENVSWITCH")
    assert not config_builtin(text, "GENEVE")


@pytest.mark.parametrize(
    ("capabilities", "disabled", "may"),
    [
        ("000001ffffffffff", "0\n", True),
        ("000001fffeffffff", "0\n", True),
        ("00000000a80425fb", "0\n", False),  # Docker's default: no CAP_SYS_MODULE
        ("000001ffffffffff", "1\n", False),
        ("000001ffffffffff", "", False),  # a kernel without modules
    ],
)
def test_may_load_modules(capabilities: str, disabled: str, may: bool) -> None:
    assert may_load_modules(f"Name:\tx\nCapEff:\t{capabilities}\n", disabled) is may


def test_tun_refused(tmp_path: Path) -> None:
    missing = tmp_path / "tun"
    assert tun_refusal(missing, loadable=False) == f"{missing} does not exist"
    assert "does not answer" in tun_refusal(Path("/dev/null"), loadable=False)
