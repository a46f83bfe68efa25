"""gdb on a server: what is asked for, what passes between a stranger's gdb and QEMU."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from dozencloud.access.debugger import gdb_command, program
from dozencloud.compute.debugging.gdbrequest import KEY, MOST_MINUTES, DebugRequest, request
from dozencloud.compute.debugging.gdbserial import (
    ACKNOWLEDGED,
    PACKET_BYTES,
    EndRequested,
    Gate,
    ProtocolError,
    allowed,
    packet,
)

REFUSED = ACKNOWLEDGED + packet(b"")


@pytest.mark.parametrize(
    "asked",
    [DebugRequest(0), DebugRequest(1), DebugRequest(30, at_start=True), DebugRequest(MOST_MINUTES)],
)
def test_a_request_reads_as_it_was_written(asked: DebugRequest) -> None:
    assert request({"other": "5", KEY: str(asked)}) == asked


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "1.5", "x", str(MOST_MINUTES + 1), "9" * 30, "٣", "30 now", "close 30"],
)
def test_what_is_no_request(text: str) -> None:
    assert request({KEY: text}) is None


def test_no_request() -> None:
    assert request({}) is None


@pytest.mark.parametrize(
    "payload",
    [
        *(b"?", b"g", b"G00", b"p21", b"P0=00", b"m40000000,4", b"M40000000,1:00", b"X0,1:\x01"),
        *(b"c", b"s", b"C05", b"S05", b"Hg0", b"T1", b"D;1", b"Z0,40000000,4", b"z1,0,4"),
        *(b"vCont?", b"vCont;c", b"vMustReplyEmpty", b"qSupported:multiprocess+", b"qC"),
        *(b"qXfer:features:read:target.xml:0,ffb", b"qfThreadInfo", b"qAttached"),
        *(b"qqemu.sstepbits", b"Qqemu.PhyMemMode:1"),
    ],
)
def test_packets_about_the_guest_pass(payload: bytes) -> None:
    assert allowed(payload)
    assert Gate().take(packet(payload)) == (packet(payload), b"")


@pytest.mark.parametrize(
    "payload",
    [
        # "info version" for QEMU's monitor; escaped and with a run length.
        *(b"qRcmd,696e666f", b"q}\x72cmd,69", b"}\x51Rcmd,69", b"q*\x20Rcmd,69"),
        *(b"vRun;2f62696e", b"vFile:open:2f", b"F0", b"R00", b"!", b"A", b"B", b"QStartNoAckMode"),
        *(b"", b"\x00", b"qXfer:memory-map:read::0,1", b"QRcmd,69"),
    ],
)
def test_everything_else_is_not_supported(payload: bytes) -> None:
    assert Gate().take(packet(payload)) == (b"", REFUSED)


def test_the_acknowledgement_of_a_refusal_does_not_reach_qemu() -> None:
    gate = Gate()
    assert gate.take(packet(b"qRcmd,69")) == (b"", REFUSED)
    assert gate.take(b"+" + packet(b"g")) == (packet(b"g"), b"")
    assert gate.take(b"+") == (b"+", b"")


def test_packets_come_in_pieces() -> None:
    gate = Gate()
    whole = b"+" + packet(b"m0,4") + b"\x03" + packet(b"qRcmd,69")
    passed = [gate.take(bytes([byte])) for byte in whole]
    assert b"".join(onward for onward, _ in passed) == b"+" + packet(b"m0,4") + b"\x03"
    assert b"".join(back for _, back in passed) == REFUSED


def test_noise_between_packets_is_dropped() -> None:
    assert Gate().take(b"\x00qRcmd,69#00" + packet(b"g")) == (packet(b"g"), b"")


def test_a_wrong_checksum_is_asked_for_again() -> None:
    assert Gate().take(b"$g#00") == (b"", b"-")
    assert Gate().take(b"$g#zz") == (b"", b"-")


@pytest.mark.parametrize(
    "data",
    [
        # QEMU stops a guest that runs at the first byte, and would begin at the second "$".
        *(packet(b"m0,4$qRcmd,69"), b"$m0,4$qRcmd,69#", b"$" * 2),
        b"$" + b"m" * (PACKET_BYTES + 1),
    ],
)
def test_what_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Gate().take(data)


@pytest.mark.parametrize("payload", [b"k", b"vKill;1"])
def test_gdb_cannot_kill(payload: bytes) -> None:
    with pytest.raises(EndRequested):
        Gate().take(packet(payload))


def test_what_gdb_is_told_can_be_typed() -> None:
    words = program({"DOZEN_CHECKOUT": "/opt/it's here"}, Path("/srv/my cloud"))
    line = gdb_command("1f", words, sudo=True)
    typed = shlex.split(line)
    assert typed[:2] == ["sudo", "gdb-multiarch"]
    _, _, tunnel = typed[-1].partition("target remote | ")
    assert shlex.split(tunnel) == [
        *("/opt/it's here/dozen", "--root", "/srv/my cloud", "debug", "--pipe", "1f"),
    ]


def test_the_program_of_an_installed_package() -> None:
    assert program({}, None)[1:] == ["-m", "dozencloud"]
