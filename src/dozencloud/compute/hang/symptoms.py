"""What is wrong with a server that does not come up, from its console and its processor.

Pure: it runs in nova-compute and in `dozen server explain` alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dozencloud.compute.hang.registers import Where

HANG = "hang"
"""The action of a server under which nova-compute records a finding."""
TAIL = 16 << 10
"""Bytes of a console's end that are looked at."""
PROMPT_LINES = 20
"""A prompt, and what was said right before it, is within so many last lines."""
_PLACE = re.compile(r"\x1b?\[\d{1,3};\d{1,3}[Hf]")
"""Puts the cursor elsewhere, mostly at the begin of a line."""
_CONTROL = re.compile(
    r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f\x7f]"
    # As Nova's API hands it out, without ESC (nova/api/openstack/compute/console_output.py).
    r"|\(B(?=\[m)|\[[?=]?\d{1,3}(?:;\d{1,3})*[A-HJKSTfhlmnsu]|\[[HJKm]"
)
_BOOT = re.compile(r"Booting Linux on physical CPU|UEFI firmware \(version")
LOGIN = "login:"
"""Of getty's prompt. The system may go on to speak on the same line."""
_STAMP = re.compile(r"^\[ *\d+\.\d+\] ")

ARCHITECTURES = {"aarch64": "64-bit ARM (aarch64)", "armv7l": "32-bit ARM (armv7l)"}
SCREEN_ONLY = ("x86_64", "i686")
"""Their BIOS and many of their systems use the screen, and never the serial port."""


@dataclass(frozen=True)
class Finding:
    """A judgement. code: for programs. cause, mend: one sentence each, for people.

    sure: nothing else can be the cause; without that it may be a slow machine.
    """

    code: str
    cause: str
    mend: str
    sure: bool = True

    def __str__(self) -> str:
        return f"{self.cause} {self.mend}"


@dataclass(frozen=True)
class PowerOn:
    """How a server was started, as libvirt and its boot files tell it.

    accelerator: libvirt's domain type. firmware: UEFI is in front. kernel: QEMU starts it.
    found: architecture of kernel or EFI loader by its bytes, empty if not known.
    reason: why inspection calls the disk not bootable; empty if it does not.
    """

    architecture: str
    accelerator: str
    firmware: bool
    kernel: bool
    command_line: str = ""
    found: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Sign:
    """What a stuck server shows. last: only as what it said last; else it is final anywhere."""

    code: str
    pattern: re.Pattern[str]
    cause: str
    mend: str
    last: bool = True


OF_SILENCE = frozenset(
    (
        *("wrong-architecture", "no-firmware", "wrong-firmware", "no-code", "wrong-board"),
        *("no-console", "silent"),
    )
)
"""Codes of findings that a word on the console refutes."""

NEW_IMAGE = "Look at it with `dozen image inspect`, and create the server from a mended image."
ROOT_MEND = (
    "Set root= in the image's os_command_line to what its disk has, and see that the kernel or its "
    "initrd brings virtio's disk driver."
)
CONSOLE_MEND = "Open its console: `openstack console url show --serial`; it waits for a command."


def _sign(code: str, pattern: str, cause: str, mend: str, *, last: bool = True) -> Sign:
    return Sign(code, re.compile(pattern, re.MULTILINE), cause, mend, last)


def _panic(code: str, why: str, cause: str, mend: str) -> Sign:
    pattern = rf"Kernel panic - not syncing: {why}(?: ---.*)?$"
    return _sign(code, pattern, cause, mend, last=False)


# The first that matches counts. {0} is what the pattern's group caught.
SIGNS: tuple[Sign, ...] = (
    _panic(
        "root-missing",
        r"VFS: Unable to mount root fs on (.+?)",
        "The kernel stopped: it cannot mount its root file system ({0}).",
        ROOT_MEND,
    ),
    _sign(
        "init-foreign",
        r"(?:Failed to execute (\S+)|Requested init (\S+) failed|exists but couldn't execute it) "
        r"\(error -8\)[\s\S]*Kernel panic",
        "The kernel cannot execute the system's first program: it is for another architecture.",
        "Use a root file system or initrd of the kernel's own architecture.",
        last=False,
    ),
    _panic(
        "init-missing",
        r"(No working init found|Requested init \S+ failed).*?",
        "The kernel stopped: it found no program to begin the system with ({0}).",
        "The disk needs /sbin/init, or the command line an init= that exists.",
    ),
    _panic(
        "init-ended",
        r"(Attempted to kill init!.*?)",
        "The kernel stopped: the first program of the system ended ({0}).",
        "The lines before it on the console tell why: `openstack console log show`.",
    ),
    _panic(
        "memory",
        r"(System is deadlocked on memory|Out of memory.*?)",
        "The kernel stopped: its memory is too small ({0}).",
        "Use a flavor with more memory.",
    ),
    _panic(
        "panic",
        r"(.+?)",
        "The kernel stopped: {0}.",
        "The lines before it on the console tell why: `openstack console log show`.",
    ),
    _sign(
        "root-waiting",
        # The kernel may go on to speak of other devices, but not of a file system or a program.
        r"Waiting for root device (\S+?)\.*$(?![\s\S]*(?:[Mm]ounted|Run /))",
        "The kernel waits for its root device {0}, which does not come.",
        ROOT_MEND,
    ),
    _sign(
        "initramfs-shell",
        r"ALERT! +(\S+) does not exist[\s\S]*\(initramfs\) *\Z",
        "The initrd did not find the root device {0} and stopped in its shell.",
        ROOT_MEND,
    ),
    _sign(
        "initramfs-shell",
        r"\(initramfs\) *\Z",
        "The initrd stopped in its shell: it did not get the root file system mounted.",
        ROOT_MEND,
    ),
    _sign(
        "emergency-shell",
        r"(?:You are in emergency mode|Entering emergency mode|Press Enter for maintenance"
        r"|Give root password for maintenance)",
        "The system stopped in its emergency shell: a file system or service that it needs failed.",
        CONSOLE_MEND,
    ),
    _sign(
        "grub-rescue",
        r"^grub rescue> *\Z",
        "GRUB does not find the rest of itself on the disk and stopped in its rescue shell.",
        NEW_IMAGE,
    ),
    _sign(
        "grub-prompt",
        r"^grub> *\Z",
        "GRUB found no menu on the disk and waits at its prompt.",
        NEW_IMAGE,
    ),
    _sign(
        "firmware-loader",
        r"BdsDxe: failed to (?:load|start) .*: Unsupported$[\s\S]*^Shell> *\Z",
        "UEFI refuses the loader on the disk: it is for another architecture, or damaged.",
        NEW_IMAGE,
    ),
    _sign(
        "firmware",
        r"(?:^Shell> *\Z|No bootable option or device was found|BdsDxe: failed to .*\Z)",
        "UEFI found nothing on the disk that it can start.",
        NEW_IMAGE,
    ),
)


def clean(text: str) -> str:
    """A console's text without what only a terminal understands."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", _PLACE.sub("\n", lines))


def last_lines(text: str, count: int = 0) -> list[str]:
    """The last lines of a console that say anything (0: all of them)."""
    return [line.rstrip() for line in clean(text).splitlines() if line.strip()][-count:]


def has_come_up(console: str) -> bool:
    """A login prompt was shown since the last boot, and nothing final after it."""
    booted = _BOOT.split(clean(console))[-1]
    return LOGIN in booted and from_console(booted) is None


def from_console(console: str, *, quiet: bool = True) -> Finding | None:
    """What the end of a console says about a server that is stuck.

    quiet: it says nothing more; without that only what is final counts.
    """
    lines = [_STAMP.sub("", line) for line in last_lines(console.rpartition(LOGIN)[2])]
    said, end = "\n".join(lines), "\n".join(lines[-PROMPT_LINES:])
    for sign in SIGNS:
        if sign.last and not quiet:
            continue
        if match := sign.pattern.search(end if sign.last else said):
            caught = next((group for group in match.groups() if group), "")
            return Finding(sign.code, sign.cause.format(caught.strip(" .")), sign.mend)
    return None


def with_disk(finding: Finding, start: PowerOn) -> Finding:
    """The same, with what the bytes of the disk tell about it."""
    if not finding.code.startswith("firmware"):
        return finding
    if start.reason:
        return Finding(finding.code, f"UEFI found nothing to start. {start.reason}", finding.mend)
    if start.found and start.found != start.architecture:
        cause = (
            f"UEFI of {_name(start.architecture)} cannot start the disk: its loader is for "
            f"{_name(start.found)}."
        )
        return Finding("wrong-architecture", cause, _architecture_mend(start.found))
    return finding


def from_silence(start: PowerOn, where: Where) -> Finding | None:
    """Why a server is busy and says nothing; None where that is usual."""
    if start.architecture in SCREEN_ONLY:
        return None
    if start.kernel and start.found and start.found != start.architecture:
        cause = (
            f"Its kernel is for {_name(start.found)}, but the server was started as "
            f"{_name(start.architecture)}, so its processor cannot execute it."
        )
        return Finding("wrong-architecture", cause, _architecture_mend(start.found))
    if start.architecture in ARCHITECTURES and not start.kernel and not start.firmware:
        cause = "It has neither firmware nor a kernel, so nothing can start its disk."
        mend = "Set hw_firmware_type=uefi on the image, or give it a kernel_id."
        return Finding("no-firmware", cause, f"{mend} {_AGAIN}")
    if where is Where.ASTRAY and not start.kernel:
        cause = f"Its firmware is not for {_name(start.architecture)}."
        mend = "That is the node's fault: its administrator sees more in the log of nova-compute."
        return Finding("wrong-firmware", cause, mend)
    if where is Where.ASTRAY:
        cause = (
            f"Its processor fell into exception vectors that nobody set up: the kernel is no code "
            f"for {_name(start.architecture)}, or is damaged."
        )
        return Finding("no-code", cause, NEW_IMAGE)
    if where is Where.STANDSTILL:
        cause = "Its kernel gave up at its first steps: it is made for other boards or processors."
        mend = "Use a kernel with support for QEMU's `virt` machine, such as Debian's armmp."
        return Finding("wrong-board", cause, mend)
    if where in (Where.KERNEL, Where.PROGRAM):
        cause = "Its kernel runs, but says nothing on the serial console."
        named = "console=tty" in start.command_line.replace("console=tty0", "")
        if not named:
            cause = "Its kernel runs, but no console= of its command line names the serial console."
        mend = "Add console=ttyAMA0 to os_command_line of the image, or try it over the network."
        return Finding("no-console", cause, mend, sure=not named)
    cause = "It is busy and has not said a word on its console; why is not known."
    return Finding("silent", cause, NEW_IMAGE, sure=False)


_AGAIN = "Then create the server anew."


def _name(architecture: str) -> str:
    return ARCHITECTURES.get(architecture, architecture)


def _architecture_mend(architecture: str) -> str:
    return f"Set hw_architecture={architecture} on the image. {_AGAIN}"
