"""What `dozen server explain` makes of what Nova tells."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dozencloud.checks.explain import Action, Explanation, boot_method, from_fault, judge, lines
from dozencloud.compute.hang import symptoms, watchdog
from dozencloud.nodes.listing import Condition, Row, of_its_node

CREATED = Action("2026-11-22 17:00:00", "create", "")
HUNG = Action("2026-11-22 17:00:31", "hang", "Its kernel is for another architecture. Mend it.")
REBOOTED = Action("2026-11-22 17:05:00", "reboot", "")
STOPPED = Action("2026-11-22 17:06:00", "stop", "")
LOGIN = "Debian GNU/Linux 13 web ttyAMA0\r\n\r\nweb login: "
LINUX = "[    0.1] Linux version 6.12\n"
CONSOLES = Path(__file__).parents[1] / "consoles"
SHELL = (CONSOLES / "uefi-empty.txt").read_text()
COLOURED_SHELL = (CONSOLES / "uefi-colours.txt").read_text()
"""Of a newer EDK II, as a user got it from Nova's API."""


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


def by_api(console: str) -> str:
    """A console as Nova's API gives it, by its own expression."""
    return re.sub("[\x00-\x08\x0b-\x1f]", "", console)


@pytest.mark.parametrize("as_given", [str, by_api], ids=["whole", "by the API"])
@pytest.mark.parametrize(
    ("status", "actions", "said", "console", "code", "words"),
    [
        ("ERROR", [CREATED], "", "", "no-host", "No node"),
        ("ACTIVE", [HUNG, CREATED], "no-code", "", "no-code", "Its kernel is for another"),
        ("ACTIVE", [HUNG, CREATED], "", "", "hang", "Its kernel is for another architecture."),
        # What comes up in the end does not hang, whatever was said before.
        ("ACTIVE", [HUNG, CREATED], "firmware", LOGIN, "", "came up after all"),
        # Nor does what was silent, and speaks now.
        ("ACTIVE", [HUNG, CREATED], "silent", LINUX, "", "listed as `hang` is over. It may still"),
        # What its console told is not over because these words are not its last.
        ("ACTIVE", [HUNG, CREATED], "firmware", LINUX, "firmware", "Its kernel is for another"),
        ("ACTIVE", [HUNG, CREATED], "silent", SHELL, "silent", "Its kernel is for another"),
        # A finding belongs to one power-on.
        ("ACTIVE", [REBOOTED, HUNG, CREATED], "", "", "", "its console is empty"),
        ("ACTIVE", [CREATED], "", SHELL, "firmware", "UEFI found nothing"),
        ("ACTIVE", [CREATED], "", COLOURED_SHELL, "firmware", "UEFI found nothing"),
        ("ACTIVE", [CREATED], "", LINUX, "", "may still boot"),
        ("ACTIVE", [CREATED], "", LOGIN, "", "Nothing is wrong"),
        ("SHUTOFF", [STOPPED, HUNG, CREATED], "", SHELL, "shutoff", "switched off"),
        ("SHUTOFF", [STOPPED, CREATED], "", "", "shutoff", "openstack server start web"),
        ("VERIFY_RESIZE", [CREATED], "", LOGIN, "verify_resize", "resize confirm web"),
        ("BUILD", [CREATED], "", "", "", "being built"),
    ],
)
def test_what_is_wrong(
    status: str,
    actions: list[Action],
    said: str,
    console: str,
    code: str,
    words: str,
    as_given: Callable[[str], str],
) -> None:
    fault = "No valid host was found. x"
    finding, note = judge("web", status, fault, actions, as_given(console), said)
    assert (finding.code if finding else "") == code
    assert words in (str(finding) if finding else note)
    assert bool(finding) != bool(note)


def test_orders_to_a_terminal_are_no_text_with_or_without_esc() -> None:
    whole = "\x1b[2J\x1b[01;01H\x1b[=3h\x1b(B\x1b[m\x1b[1mgrub> \x1b[0m\x1b[?25h"
    for given in (whole, by_api(whole)):
        assert symptoms.last_lines(given) == ["grub>"]
    kept = "[    0.1] x [OK] [a] (B) [12] [1;x] item[3]"
    assert symptoms.last_lines(kept) == [kept]


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
    assert data["actions"][0]["action"] == watchdog.HANG


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


@pytest.mark.parametrize(
    ("condition", "status", "code"),
    [
        (Condition.CUT_OFF, "ACTIVE", "no-network"),
        (Condition.DOWN, "ACTIVE", "node-down"),
        (Condition.UP, "ACTIVE", None),
        (Condition.DRAINED, "ACTIVE", None),
        (Condition.DOWN, "SHUTOFF", None),
    ],
)
def test_what_a_server_lacks_because_of_its_node(
    condition: Condition, status: str, code: str | None
) -> None:
    row = Row("pi-1", "compute", "192.0.2.1", condition, True, (), None, None)
    found = of_its_node(row, status)
    assert (found.code if found else None) == code
    assert found is None or "pi-1" in found.cause


def test_a_silent_server_of_an_image_that_says_nothing() -> None:
    told = [judge("web", "ACTIVE", "", [CREATED], "", "", unsaid)[1] for unsaid in ("", "0f-1")]
    assert "inspect" not in told[0]
    assert told[1].endswith("dozen image inspect 0f-1")
    assert "0f-1" not in judge("web", "ACTIVE", "", [CREATED], "booting", "", "0f-1")[1]
