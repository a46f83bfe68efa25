"""What `dozen server explain` makes of what Nova tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dozencloud.compute import hang
from dozencloud.explain import Action, Explanation, boot_method, from_fault, judge, lines

CREATED = Action("2026-11-22 17:00:00", "create", "")
HUNG = Action("2026-11-22 17:00:31", "hang", "Its kernel is for another architecture. Mend it.")
REBOOTED = Action("2026-11-22 17:05:00", "reboot", "")
STOPPED = Action("2026-11-22 17:06:00", "stop", "")
LOGIN = "Debian GNU/Linux 13 web ttyAMA0\r\n\r\nweb login: "
SHELL = (Path(__file__).parent / "consoles" / "uefi-empty.txt").read_text()


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (
            "No valid host was found. There are not enough hosts available.",
            "no-host",
            "No node can run it now.",
        ),
        (
            "No valid host was found. No node can run s390x servers.",
            "no-host",
            "No node can run it now. No node can run s390x servers.",
        ),
        ("No valid host was found.", "no-host", "No node can run it now."),
        (
            "Build of instance 8a4f aborted: The kernel is for armv7l.",
            "refused",
            "The kernel is for armv7l.",
        ),
        ("Virtual Interface creation failed", "network", "did not come up in time: Virtual"),
        (
            "Failed to allocate the network(s), not rescheduling.",
            "network",
            "did not come up in time: Failed to allocate the network.",
        ),
        ("internal error: qemu died", "error", "internal error: qemu died"),
        # The driver's own refusals are whole sentences.
        ("The kernel is for x86-64. Use another.", "error", "The kernel is for x86-64. Use"),
        ("", "error", "Nova does not say why."),
    ],
)
def test_faults(message: str, code: str, words: str) -> None:
    finding = from_fault(message)
    assert finding.code == code
    assert words in finding.cause
    assert finding.mend


@pytest.mark.parametrize(
    ("status", "actions", "console", "code", "words"),
    [
        ("ERROR", [CREATED], "", "no-host", "No node"),
        ("ACTIVE", [HUNG, CREATED], "", "hang", "Its kernel is for another architecture."),
        # What comes up in the end does not hang, whatever was said before.
        ("ACTIVE", [HUNG, CREATED], LOGIN, "", "login prompt"),
        # Nor does what was silent, and speaks now.
        ("ACTIVE", [HUNG, CREATED], "[    0.1] Linux version 6.12\n", "", "may still boot"),
        ("ACTIVE", [HUNG, CREATED], SHELL, "hang", "Its kernel is for another architecture."),
        # A finding belongs to one power-on.
        ("ACTIVE", [REBOOTED, HUNG, CREATED], "", "", "its console is empty"),
        ("ACTIVE", [CREATED], SHELL, "firmware", "UEFI found nothing"),
        ("ACTIVE", [CREATED], "[    0.1] Linux version 6.12\n", "", "may still boot"),
        ("ACTIVE", [CREATED], LOGIN, "", "Nothing is wrong"),
        ("SHUTOFF", [STOPPED, HUNG, CREATED], SHELL, "shutoff", "switched off"),
        ("SHUTOFF", [STOPPED, CREATED], "", "shutoff", "openstack server start web"),
        ("VERIFY_RESIZE", [CREATED], LOGIN, "verify_resize", "resize confirm web"),
        ("BUILD", [CREATED], "", "", "being built"),
    ],
)
def test_what_is_wrong(
    status: str, actions: list[Action], console: str, code: str, words: str
) -> None:
    finding, note = judge("web", status, "No valid host was found. x", actions, console)
    assert (finding.code if finding else "") == code
    assert words in (str(finding) if finding else note)
    assert bool(finding) != bool(note)


def told(**more: Any) -> Explanation:
    plain: dict[str, Any] = {
        "id": "5a1c",
        "name": "web",
        "status": "ACTIVE",
        "architecture": "armv7l",
        "boot": "kernel",
        "image": "board",
        "flavor": "m1.nano: 1 CPU, 128 MiB",
        "addresses": ("10.12.0.7",),
        "actions": (HUNG, CREATED),
        "console": ("last words",),
        "finding": from_fault("Build of instance 8a4f aborted: It is wrong."),
    }
    return Explanation(**plain | more)


def test_one_screen() -> None:
    text = "\n".join(lines(told()))
    assert text.startswith("web (5a1c): ACTIVE\n")
    assert "board (32-bit ARM (armv7l), starts by a kernel)" in text
    assert "2026-11-22 17:00:31  hang       Its kernel" in text
    assert "| last words" in text
    assert text.endswith("It is wrong.\nMend that, delete this server and create it anew.")
    assert len(text.splitlines()) < 24


def test_nothing_wrong_is_said_and_the_console_left_out() -> None:
    text = "\n".join(lines(told(finding=None, note="Nothing is wrong.", image="", addresses=())))
    assert text.endswith("\nNothing is wrong.")
    assert "last words" not in text
    assert "addresses" not in text


def test_json_holds_the_finding() -> None:
    data = json.loads(json.dumps(told().to_json()))
    assert data["finding"]["code"] == "refused"
    assert data["actions"][0]["action"] == hang.HANG


@pytest.mark.parametrize(
    ("properties", "method"),
    [
        ({"kernel_id": "k", "hw_firmware_type": "uefi"}, "kernel"),
        ({"hw_firmware_type": "uefi"}, "uefi"),
        ({"hw_vm_mode": "exe"}, "rootfs"),
        ({"kernel_id": None}, ""),
        ({}, ""),
    ],
)
def test_boot_methods(properties: dict[str, str | None], method: str) -> None:
    assert boot_method(properties) == method
