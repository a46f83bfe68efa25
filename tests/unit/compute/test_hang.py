"""When a server counts as hung, and why, from recorded registers and consoles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dozencloud.compute.hang import symptoms, watchdog
from dozencloud.compute.hang.registers import Processor, Where, parse, where
from dozencloud.compute.hang.symptoms import (
    Finding,
    PowerOn,
    from_console,
    from_silence,
    has_come_up,
)
from dozencloud.compute.hang.watchdog import BUSY, DONE, LIMIT, POLL, QUIET, Next, Progress, Sample

# ---- registers, as QEMU 7.2 printed them ----------------------------------------------------

ZIMAGE_IN_AARCH64 = """\
CPU#0
 PC=0000000000000200 X00=0000000048000000 X01=0000000000000000
X30=0000000000000000  SP=0000000000000000
PSTATE=000003c5 ---- EL1h    FPU disabled
"""
RUNNING_64 = """\
CPU#0
 PC=ffffdd8749f88160 X00=000000000000600a X01=ffff80008000bbe0
PSTATE=80000005 N--- EL1h     FPCR=00000000 FPSR=00000000
"""
PROGRAM_64 = RUNNING_64.replace("EL1h", "EL0t").replace("ffffdd8749f88160", "0000aaaab0c81234")


def arm32(pc: str, mode: str) -> str:
    return f"CPU#0\nR12=00000000 R13=00000000 R14=41026a4a R15={pc}\nPSR=000001db ---- A {mode}\n"


IMAGE_IN_ARMV7 = [arm32(pc, "und32") for pc in ("072a0000", "07981800", "07ff9000")]
NO_FIRMWARE_32 = [arm32(pc, mode) for pc, mode in (("076eb000", "svc32"), ("04e4d800", "und32"))]
AARCH64_FIRMWARE_IN_ARMV7 = [arm32("00000004", "und32")] * 3
MARVELL_KERNEL = [arm32(pc, "abt32") for pc in ("02912000", "02dd4800", "03207000")]
RASPBERRY_KERNEL = [arm32("40111750", "svc32")] * 3
RUNNING_32 = [arm32(pc, "svc32") for pc in ("c0902984", "c0412614", "c04125f8")]
X86 = "CPU#0\nRAX=0000000000000000 RBX=0000000000000000\nRIP=000000000000fff0 RFL=00000002\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ZIMAGE_IN_AARCH64, Processor(0x200, "EL1h", 64)),
        (RUNNING_64, Processor(0xFFFFDD8749F88160, "EL1h", 64)),
        (RASPBERRY_KERNEL[0], Processor(0x40111750, "svc32", 32)),
        (X86, None),
        ("", None),
        ("unknown command: 'info registers'", None),
    ],
)
def test_registers(text: str, expected: Processor | None) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("texts", "firmware", "expected"),
    [
        ([ZIMAGE_IN_AARCH64] * 3, False, Where.ASTRAY),
        ([ZIMAGE_IN_AARCH64] * 3, True, Where.ASTRAY),
        (IMAGE_IN_ARMV7, False, Where.ASTRAY),
        (NO_FIRMWARE_32, False, Where.ASTRAY),
        # Below RAM, but in the mode of ordinary code: it may be firmware at work.
        (NO_FIRMWARE_32, True, Where.UNKNOWN),
        (AARCH64_FIRMWARE_IN_ARMV7, True, Where.ASTRAY),
        (MARVELL_KERNEL, False, Where.ASTRAY),
        (RASPBERRY_KERNEL, False, Where.STANDSTILL),
        (RASPBERRY_KERNEL[:1], False, Where.UNKNOWN),
        (RUNNING_32, False, Where.KERNEL),
        ([RUNNING_64] * 3, False, Where.KERNEL),
        ([ZIMAGE_IN_AARCH64, RUNNING_64], False, Where.KERNEL),
        ([PROGRAM_64] * 2, False, Where.PROGRAM),
        ([], False, Where.UNKNOWN),
    ],
)
def test_where_the_processor_is(texts: list[str], firmware: bool, expected: Where) -> None:
    looks = [look for text in texts if (look := parse(text))]
    assert len(looks) == len(texts)
    assert where(looks, firmware=firmware) is expected


# ---- silence --------------------------------------------------------------------------------


def start(**more: Any) -> PowerOn:
    return PowerOn(**{"architecture": "aarch64", "accelerator": "qemu"} | KERNEL | more)


KERNEL: dict[str, Any] = {"firmware": False, "kernel": True, "command_line": "console=ttyAMA0"}
DISK: dict[str, Any] = {"firmware": True, "kernel": False, "command_line": ""}


@pytest.mark.parametrize(
    ("started", "place", "code", "words"),
    [
        (
            start(found="armv7l"),
            Where.ASTRAY,
            "wrong-architecture",
            "kernel is for 32-bit ARM (armv7l), but the server was started as 64-bit ARM",
        ),
        (
            start(architecture="armv7l", found="aarch64"),
            Where.UNKNOWN,
            "wrong-architecture",
            "Set hw_architecture=aarch64 on the image.",
        ),
        (start(found="aarch64"), Where.ASTRAY, "no-code", "or is damaged"),
        (start(), Where.ASTRAY, "no-code", "no code for 64-bit ARM (aarch64)"),
        (start(**DISK | {"firmware": False}), Where.ASTRAY, "no-firmware", "hw_firmware_type=uefi"),
        (start(**DISK), Where.ASTRAY, "wrong-firmware", "firmware is not for 64-bit ARM"),
        (start(), Where.STANDSTILL, "wrong-board", "made for other boards or processors"),
        (start(), Where.KERNEL, "no-console", "says nothing on the serial console"),
        (start(command_line="quiet"), Where.KERNEL, "no-console", "no console= of its command"),
        (start(command_line="console=tty0"), Where.PROGRAM, "no-console", "no console= of its"),
        (start(), Where.UNKNOWN, "silent", "why is not known"),
        (start(**DISK), Where.UNKNOWN, "silent", "why is not known"),
        (start(architecture="riscv64", kernel=False), Where.UNKNOWN, "silent", "is not known"),
    ],
)
def test_why_a_server_is_silent(started: PowerOn, place: Where, code: str, words: str) -> None:
    finding = from_silence(started, place)
    assert finding
    assert finding.code == code
    assert words in str(finding)


def test_a_server_whose_firmware_knows_no_serial_port_may_be_silent() -> None:
    bios = start(architecture="x86_64", firmware=False, kernel=False)
    assert from_silence(bios, Where.UNKNOWN) is None


# ---- consoles -------------------------------------------------------------------------------

LOGIN = "Debian GNU/Linux 13 first ttyAMA0\r\n\r\nfirst login: "
RESET = "\x1b[2J\x1b[01;01H\x1b[=3h"


@pytest.mark.parametrize(
    ("console", "up"),
    [
        (LOGIN, True),
        (f"{LOGIN}[   14.21] cloud-init: finished\r\n", True),
        ("[    0.00] Booting Linux on physical CPU 0x0\r\n", False),
        # The small image's last words.
        ("\rtiny login: tiny: ready after 4.66 s\r\n", True),
        (LOGIN + "[  99.0] Kernel panic - not syncing: Oops\r\n", False),
        # It was rebooted from inside.
        (LOGIN + "[    0.00] Booting Linux on physical CPU 0x0\r\n", False),
        ("", False),
    ],
)
def test_a_login_prompt_means_that_it_came_up(console: str, up: bool) -> None:
    assert has_come_up(console) is up


def recorded(name: str) -> str:
    """A console of QEMU 7.2 with Debian's firmware or kernel; its end."""
    return (Path(__file__).parents[1] / "consoles" / f"{name}.txt").read_bytes().decode()


# As initramfs-tools (scripts/functions), systemd, GRUB and Linux (panic.c) print them.
INITRAMFS = """\
Gave up waiting for root file system device.  Common problems:
 - Missing modules (cat /proc/modules; ls /dev)
ALERT!  UUID=1234-abcd does not exist.  Dropping to a shell!


BusyBox v1.37.0 (Debian) built-in shell (ash)
Enter 'help' for a list of built-in commands.

(initramfs) """
EMERGENCY = """\
[  OK  ] Started emergency.service - Emergency Shell.
You are in emergency mode. After logging in, type "journalctl -xb" to view
system logs, "systemctl reboot" to reboot, or "exit" to continue bootup.

Press Enter for maintenance
(or press Control-D to continue): """
RESCUE = "error: unknown filesystem.\r\nEntering rescue mode...\r\ngrub rescue> "
PROMPT = "                             GNU GRUB  version 2.12\r\n\r\n\x1b[1mgrub> "
INIT_ENDED = (
    "[    2.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n"
    "[    2.2] ---[ end Kernel panic - not syncing: Attempted to kill init! "
    "exitcode=0x00000100 ]---\r\n"
)
DEADLOCK = "[    1.9] Kernel panic - not syncing: System is deadlocked on memory\r\n"
UNSUPPORTED = recorded("uefi-x86").replace(": Not Found", ": Unsupported")
SILENT_SYSTEM = (
    recorded("uefi-x86").partition("BdsDxe: loading Boot0002")[0]
    + 'BdsDxe: starting Boot0003 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x2,0x0)\r\n'
)


@pytest.mark.parametrize(
    ("console", "code", "words"),
    [
        (recorded("uefi-empty"), "firmware", "UEFI found nothing on the disk"),
        (recorded("uefi-x86"), "firmware", "UEFI found nothing on the disk"),
        (recorded("uefi-x86").partition("BdsDxe: loading")[0], "firmware", "found nothing"),
        (UNSUPPORTED, "firmware-loader", "it is for another architecture, or damaged"),
        (recorded("noroot"), "root-missing", "(unknown-block(0,0))"),
        (recorded("rootwait"), "root-waiting", "its root device /dev/vdz, which"),
        (recorded("rootwait") + "[   9.1] random: crng init done\r\n", "root-waiting", "/dev/vdz"),
        (recorded("foreign"), "init-foreign", "it is for another architecture"),
        (INITRAMFS, "initramfs-shell", "root device UUID=1234-abcd and"),
        (INITRAMFS[-40:], "initramfs-shell", "did not get the root file system mounted"),
        (EMERGENCY, "emergency-shell", "emergency shell"),
        (RESCUE, "grub-rescue", "rescue shell"),
        (PROMPT, "grub-prompt", "waits at its prompt"),
        (INIT_ENDED, "init-ended", "ended (Attempted to kill init! exitcode=0x00000100)."),
        (DEADLOCK, "memory", "too small"),
        ("Kernel panic - not syncing: Oops: BRK\r\n", "panic", "stopped: Oops: BRK."),
    ],
)
def test_what_a_stuck_console_says(console: str, code: str, words: str) -> None:
    finding = from_console(console)
    assert finding
    assert finding.code == code
    assert words in finding.cause


@pytest.mark.parametrize(
    "console",
    [
        "",
        LOGIN,
        INIT_ENDED + LOGIN,
        # Firmware tries one device after another; the last one is at work.
        SILENT_SYSTEM,
        "[    0.6] integrity: Machine keyring initialized\r\n",
        INITRAMFS + "exit\r\n[   30.1] EXT4-fs (vda1): mounted filesystem\r\n",
        recorded("rootwait") + "[    1.6] EXT4-fs (vda1): mounted filesystem\r\n",
    ],
)
def test_what_is_not_stuck(console: str) -> None:
    assert from_console(console) is None


def test_a_prompt_counts_only_when_nothing_follows() -> None:
    assert from_console(INITRAMFS, quiet=False) is None
    assert from_console(recorded("uefi-empty"), quiet=False) is None
    assert from_console(INIT_ENDED, quiet=False)


@pytest.mark.parametrize(
    ("started", "code", "words"),
    [
        (start(**DISK), "firmware", "UEFI found nothing on the disk that it can start."),
        (
            start(**DISK, reason="x86-64 loader only: this image cannot start on ARM."),
            "firmware",
            "UEFI found nothing to start. x86-64 loader only: this image cannot start on ARM.",
        ),
        (
            start(**DISK, found="armv7l"),
            "wrong-architecture",
            "its loader is for 32-bit ARM (armv7l).",
        ),
        (start(**DISK, found="aarch64"), "firmware", "UEFI found nothing on the disk"),
    ],
)
def test_the_disk_says_more_than_the_firmware(started: PowerOn, code: str, words: str) -> None:
    said = from_console(recorded("uefi-x86"))
    assert said
    finding = symptoms.with_disk(said, started)
    assert finding.code == code
    assert words in finding.cause


def test_the_disk_says_nothing_about_a_kernel_that_stopped() -> None:
    said = from_console(recorded("noroot"))
    assert said
    assert symptoms.with_disk(said, start(reason="The disk is empty.")) == said


# ---- the course of a watch ------------------------------------------------------------------


def course(*points: tuple[float, float, int], patience: float = 20) -> list[Next]:
    progress = Progress(patience)
    return [progress.look(Sample(*point)) for point in points]


def every(
    seconds: float, until: float, share: float, said: int, since: float = 0
) -> list[tuple[float, float, int]]:
    count = int((until - since) / seconds)
    return [(since + n * seconds, (since + n * seconds) * share, said) for n in range(1, count + 1)]


def test_busy_and_silent_is_explained_once_its_patience_is_used_up() -> None:
    steps = course(*every(POLL, 24, 1.0, 0))
    assert steps.index(Next.EXPLAIN) == 6  # 21 s of processor time
    assert set(steps[:6]) == {Next.WAIT}


def test_a_crowded_host_makes_it_later() -> None:
    steps = course(*every(POLL, 60, 0.5, 0))
    assert steps.index(Next.EXPLAIN) * POLL >= 20 / 0.5 - 2 * POLL


def test_silent_and_idle_is_no_hang() -> None:
    busy = every(POLL, 18, 1.0, 0)
    idle = [(18 + n * POLL, 18 + n * POLL * BUSY / 10, 0) for n in range(1, 200)]
    assert set(course(*busy, *idle)) == {Next.WAIT}


def test_the_setting_counts() -> None:
    assert Next.EXPLAIN in course(*every(POLL, 15, 1.0, 0), patience=10)
    assert Next.EXPLAIN not in course(*every(POLL, 60, 1.0, 0), patience=100)


def test_what_may_only_be_slow_gets_eight_times_as_long() -> None:
    progress = Progress(20)
    asked = []
    for point in every(POLL, 400, 1.0, 0):
        if progress.look(Sample(*point)) is Next.EXPLAIN:
            asked.append(point[0])
            if not progress.wait_longer():
                break
    assert asked == [21, 42, 81, 162]


@pytest.mark.parametrize(
    ("started", "place", "sure"),
    [
        (start(), Where.ASTRAY, True),
        (start(), Where.STANDSTILL, True),
        (start(command_line="quiet"), Where.KERNEL, True),
        (start(), Where.KERNEL, False),
        (start(), Where.UNKNOWN, False),
    ],
)
def test_what_a_slow_machine_cannot_cause_is_sure(
    started: PowerOn, place: Where, sure: bool
) -> None:
    finding = from_silence(started, place)
    assert finding
    assert finding.sure is sure


def test_what_speaks_is_listened_to_and_read_when_it_is_quiet() -> None:
    steps = course((0, 0, 0), (3, 3, 100), (6, 6, 200), (9, 9, 200), (12, 12, 200), (17, 17, 200))
    assert steps == [Next.WAIT, Next.LISTEN, Next.LISTEN, Next.WAIT, Next.WAIT, Next.READ]


def test_a_server_that_spoke_is_never_called_silent() -> None:
    assert Next.EXPLAIN not in course(*every(POLL, LIMIT, 1.0, 5))


def test_quiet_and_idle_ends_the_watch() -> None:
    steps = course((0, 0, 7), *((QUIET + n * POLL, 0.1, 7) for n in range(30)))
    assert steps[-1] is Next.END
    assert QUIET + steps.index(Next.END) * POLL <= DONE + 2 * POLL


@pytest.mark.parametrize("said", [0, 7])
def test_every_watch_ends(said: int) -> None:
    assert course((0, 0, said), (LIMIT + 1, LIMIT, said))[-1] is Next.END


# ---- how a server was started ---------------------------------------------------------------

LIVE = """\
<domain type='{kind}' id='3'>
  <os{firmware}><type arch='aarch64' machine='virt-7.2'>hvm</type>{boot}</os>
  <devices>
    <disk type='file' device='cdrom'><source file='/i/disk.config'/></disk>
    <disk type='file' device='disk'>
      <source file='/i/disk' index='1'/>
      <backingStore type='file' index='2'>
        <source file='/i/_base/5d0a'/>
        <backingStore/>
      </backingStore>
    </disk>
    <disk type='file' device='disk'><source file='/i/disk.eph0'/></disk>
  </devices>
</domain>"""
KERNEL_BOOT = "<kernel>/i/kernel</kernel><cmdline>console=ttyAMA0</cmdline>"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"kind": "kvm", "firmware": "", "boot": KERNEL_BOOT},
            PowerOn("aarch64", "kvm", firmware=False, kernel=True, command_line="console=ttyAMA0"),
        ),
        (
            {"kind": "qemu", "firmware": " firmware='efi'", "boot": ""},
            PowerOn("aarch64", "qemu", firmware=True, kernel=False),
        ),
        (
            {"kind": "qemu", "firmware": "", "boot": "<loader>/f.fd</loader>"},
            PowerOn("aarch64", "qemu", firmware=True, kernel=False),
        ),
        (
            {"kind": "qemu", "firmware": "", "boot": ""},
            PowerOn("aarch64", "qemu", firmware=False, kernel=False),
        ),
    ],
)
def test_how_a_domain_was_started(fields: dict[str, str], expected: PowerOn) -> None:
    assert watchdog.start_of(LIVE.format(**fields)) == expected


# ---- what is told ---------------------------------------------------------------------------


def test_a_message_holds_the_cause() -> None:
    short = Finding("c", "It hangs.", "Mend it.")
    assert watchdog.shortened(short) == "It hangs. Mend it."
    long = Finding("c", "It hangs.", "m" * watchdog.MESSAGE_LENGTH)
    assert watchdog.shortened(long) == "It hangs."
    assert len(watchdog.shortened(Finding("c", "c" * 999, ""))) == watchdog.MESSAGE_LENGTH


def test_the_log_of_a_console_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"x" * symptoms.TAIL + "Grüße\xff".encode("latin-1"))
    assert watchdog.tail(log).endswith("�")
    assert len(watchdog.tail(log)) == symptoms.TAIL
