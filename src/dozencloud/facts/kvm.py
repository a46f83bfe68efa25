"""Whether KVM really works here, found out by the calls that QEMU itself makes.

That /dev/kvm exists, opens, and even makes a virtual CPU says little; the questions are asked
in QEMU's order up to the first one that fails. No QEMU runs, no guest code runs.
Numbers: linux/kvm.h, arch/arm64/include/uapi/asm/kvm.h, api.rst in the kernel's Documentation.
"""

from __future__ import annotations

import fcntl
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

DEVICE = Path("/dev/kvm")

_API_VERSION = 12  # the only one since Linux 2.6.22

_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_KVM_CHECK_EXTENSION = 0xAE03
_KVM_CREATE_VCPU = 0xAE41
_KVM_CREATE_DEVICE = 0xC00CAEE0
_KVM_CREATE_DEVICE_TEST = 1
_KVM_ARM_VCPU_INIT = 0x4020AEAE
_KVM_ARM_PREFERRED_TARGET = 0x8020AEAF
_KVM_GET_SUPPORTED_CPUID = 0xC008AE05
_KVM_SET_CPUID2 = 0x4008AE90
_KVM_GET_MSRS = 0xC008AE88
_KVM_SET_MSRS = 0x4008AE89

CAP_ARM_EL1_32BIT = 93
_CAP_ARM_VM_IPA_SIZE = 165
_CAP_ARM_SVE = 170

_VCPU_EL1_32BIT = 1
_VCPU_PSCI_0_2 = 2

_DEVICE_ARM_VGIC = {5: 2, 7: 3}  # kvm_device_type → version of the GIC

_CPUID_ENTRIES = 256
_CPUID_ENTRY = struct.Struct("=10I")
_MSR_ARCH_CAPABILITIES = 0x10A
_CPUID_7_EDX_ARCH_CAPABILITIES = 1 << 29


class KvmState(StrEnum):
    """How far KVM gets."""

    ABSENT = "absent"
    UNUSABLE = "unusable"
    USABLE = "usable"


@dataclass(frozen=True)
class Kvm:
    """KVM as QEMU will find it."""

    state: KvmState
    reason: str = ""
    """Why it is not usable: half a sentence, empty when usable."""
    aarch32_el1: bool = False
    """A guest may run a 32-bit ARM kernel: the capability is there and a vCPU accepted it."""
    sve: bool = False
    """KVM offers SVE to guests. QEMU 7.2 then refuses `-cpu host,aarch64=off` ("kvm_arch_init_vcpu
    failed: Invalid argument") and accepts `-cpu host,aarch64=off,sve=off`.
    """
    gic: tuple[int, ...] = ()
    """Versions of the interrupt controller that KVM can give to an ARM guest."""
    root_only: bool = False
    """Nobody but root may open the device, so QEMU under libvirt's own user may not.

    libvirt, itself root, then finds its cached capabilities outdated every time and probes for
    some 8 s on each call (virQEMUCapsIsValid), unless qemu.conf says `user = "root"`.
    """

    @property
    def usable(self) -> bool:
        return self.state is KvmState.USABLE

    @property
    def for_servers(self) -> bool:
        """It works, also for the user who runs QEMU."""
        return self.usable and not self.root_only


class _Refused(Exception):
    """KVM said no; the message is half a sentence for the person."""


def kvm(device: Path = DEVICE, machine: str = "") -> Kvm:
    """Ask KVM at `device` what it can do on `machine` (default: this one)."""
    machine = machine or platform.machine()
    try:
        status = device.stat()
    except OSError:
        return Kvm(KvmState.ABSENT, f"{device} does not exist")
    try:
        with _opened(device) as fd:
            found = _usable(fd, machine)
    except PermissionError:
        found = Kvm(KvmState.UNUSABLE, f"{device} may not be opened by this user")
    except OSError as error:
        found = Kvm(KvmState.UNUSABLE, f"{device} cannot be opened: {error.strerror}")
    except _Refused as refusal:
        found = Kvm(KvmState.UNUSABLE, str(refusal))
    return replace(found, root_only=only_for_root(status.st_mode, status.st_gid))


def only_for_root(mode: int, group: int) -> bool:
    """Whether these permissions let neither everybody nor a group of its own read and write."""
    return not (mode & 0o006 == 0o006 or (mode & 0o060 == 0o060 and group != 0))


def _usable(fd: int, machine: str) -> Kvm:
    version = _call(fd, _KVM_GET_API_VERSION, 0, "it does not answer as KVM")
    if version != _API_VERSION:
        raise _Refused(f"it speaks version {version} of the KVM interface, not {_API_VERSION}")
    if machine == "aarch64":
        return _usable_arm(fd)
    with (
        _made(fd, _KVM_CREATE_VM, 0, "it cannot make a virtual machine") as vm,
        _made(vm, _KVM_CREATE_VCPU, 0, "it cannot make a virtual CPU") as vcpu,
    ):
        if machine == "x86_64":
            _check_host_cpu_x86(fd, vcpu)
    return Kvm(KvmState.USABLE)


def _usable_arm(fd: int) -> Kvm:
    ipa_bits = _extension(fd, _CAP_ARM_VM_IPA_SIZE)
    with _made(fd, _KVM_CREATE_VM, ipa_bits, "it cannot make a virtual machine") as vm:
        gic = tuple(version for kind, version in _DEVICE_ARM_VGIC.items() if _has_device(vm, kind))
    psci, narrow = 1 << _VCPU_PSCI_0_2, 1 << _VCPU_EL1_32BIT
    if not _accepts(fd, ipa_bits, psci):
        raise _Refused("it makes a virtual CPU and then refuses to initialise it")
    return Kvm(
        KvmState.USABLE,
        aarch32_el1=bool(_extension(fd, CAP_ARM_EL1_32BIT))
        and _accepts(fd, ipa_bits, psci | narrow),
        sve=bool(_extension(fd, _CAP_ARM_SVE)),
        gic=gic,
    )


def _accepts(fd: int, ipa_bits: int, features: int) -> bool:
    """Whether a vCPU of a new machine initialises with `features` (struct kvm_vcpu_init).

    One machine each: all vCPUs of a machine must have the same register width.
    """
    with (
        _made(fd, _KVM_CREATE_VM, ipa_bits, "it cannot make a virtual machine") as vm,
        _made(vm, _KVM_CREATE_VCPU, 0, "it cannot make a virtual CPU") as vcpu,
    ):
        init = bytearray(struct.pack("=8I", *[0] * 8))
        try:
            fcntl.ioctl(vm, _KVM_ARM_PREFERRED_TARGET, init)
            struct.pack_into("=I", init, 4, features)
            fcntl.ioctl(vcpu, _KVM_ARM_VCPU_INIT, init)
        except OSError:
            return False
        return True


def _check_host_cpu_x86(fd: int, vcpu: int) -> None:
    """Set the host's CPUID and ARCH_CAPABILITIES as `-cpu host` does (QEMU: kvm_init_msrs).

    KVM nested in a cloud may offer that register and then refuse it. QEMU aborts on that with
    "failed to set MSR 0x10a"; CPU models by name start all the same.
    """
    cpuid = bytearray(struct.pack("=II", _CPUID_ENTRIES, 0)) + bytearray(
        _CPUID_ENTRY.size * _CPUID_ENTRIES
    )
    _call(fd, _KVM_GET_SUPPORTED_CPUID, cpuid, "it does not say which CPU it offers")
    (count,) = struct.unpack_from("=I", cpuid)
    offered = any(
        leaf == 7 and index == 0 and edx & _CPUID_7_EDX_ARCH_CAPABILITIES
        for leaf, index, _flags, _eax, _ebx, _ecx, edx, *_padding in _CPUID_ENTRY.iter_unpack(
            cpuid[8 : 8 + count * _CPUID_ENTRY.size]
        )
    )
    _call(vcpu, _KVM_SET_CPUID2, cpuid, "it refuses the CPU that it offers")
    msrs = bytearray(struct.pack("=IIIIQ", 1, 0, _MSR_ARCH_CAPABILITIES, 0, 0))
    if not offered or _call(fd, _KVM_GET_MSRS, msrs, "it does not tell its registers") != 1:
        return
    if _call(vcpu, _KVM_SET_MSRS, msrs, "it refuses its own registers") != 1:
        raise _Refused("it refuses the CPU that it offers (MSR 0x10a), so that QEMU would abort")


def _has_device(vm: int, kind: int) -> bool:
    request = bytearray(struct.pack("=III", kind, 0, _KVM_CREATE_DEVICE_TEST))
    try:
        fcntl.ioctl(vm, _KVM_CREATE_DEVICE, request)
    except OSError:
        return False
    return True


def _extension(fd: int, capability: int) -> int:
    try:
        return fcntl.ioctl(fd, _KVM_CHECK_EXTENSION, capability)
    except OSError:
        return 0


def _call(fd: int, request: int, argument: int | bytearray, refusal: str) -> int:
    try:
        return fcntl.ioctl(fd, request, argument)
    except OSError as error:
        raise _Refused(f"{refusal}: {error.strerror}") from error


@contextmanager
def _made(fd: int, request: int, argument: int, refusal: str) -> Iterator[int]:
    made = _call(fd, request, argument, refusal)
    try:
        yield made
    finally:
        os.close(made)


@contextmanager
def _opened(device: Path) -> Iterator[int]:
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
