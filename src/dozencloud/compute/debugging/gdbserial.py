"""gdb's remote serial protocol, as far as a gate between a stranger's gdb and QEMU needs it.

QEMU's gdb stub also takes commands for QEMU's monitor (qRcmd), and with those a gdb could read
the host's files and run programs on it. So only packets that are known to be about the guest pass.

https://sourceware.org/gdb/current/onlinedocs/gdb.html/Remote-Protocol.html
"""

from __future__ import annotations

INTERRUPT = b"\x03"
ACKNOWLEDGED, AGAIN = b"+", b"-"
PACKET_BYTES = 64 * 1024
"""More in one packet than any gdb sends: QEMU takes 4096."""

LETTERS = b"?gGpPmMXcCsSHTDZz"
"""Registers, memory, run, threads, detach, breakpoints: one letter, then arguments."""
NAMES = (
    *(b"vCont", b"vMustReplyEmpty", b"vAttach;"),
    *(b"qSupported", b"qAttached", b"qXfer:features:read:", b"qC", b"qfThreadInfo"),
    *(b"qsThreadInfo", b"qThreadExtraInfo,", b"qSymbol:", b"qOffsets", b"qTStatus"),
    # QEMU's own: single steps with or without interrupts, physical memory of the guest.
    *(b"qqemu.", b"Qqemu."),
)


class ProtocolError(Exception):
    """What came is not gdb's protocol, or tries to be two things at once."""


class EndRequested(Exception):
    """gdb wants the guest to be killed. That is not a debugger's business: Nova can do it."""


def packet(payload: bytes) -> bytes:
    """The payload, framed."""
    return b"$%s#%02x" % (payload, sum(payload) % 256)


def allowed(payload: bytes) -> bool:
    """The packet is about the guest and about nothing else.

    A prefix is enough. QEMU compares the beginnings of commands too, and neither escapes nor
    run lengths can change what stands literally before them.
    """
    if payload[:1] in (b"v", b"q", b"Q"):
        return payload.startswith(NAMES)
    return bool(payload) and payload[0] in LETTERS


class Gate:
    """What gdb sends, packet by packet. Only whole packets pass, framed anew.

    QEMU drops what it does not expect until the next "$", depending on what it is doing. So a
    "$" inside a packet could begin another one for QEMU than for us: it ends the connection.
    gdb escapes it.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._refused = 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Bytes from gdb -> (bytes for QEMU, bytes back to gdb)."""
        self._rest += data
        onward, back = b"", b""
        while self._rest:
            first = self._rest[:1]
            if first != b"$":
                self._rest = self._rest[1:]
                if first == ACKNOWLEDGED and self._refused:
                    # It acknowledges our refusal. QEMU would stop the guest at any byte.
                    self._refused -= 1
                elif first in (INTERRUPT, ACKNOWLEDGED, AGAIN):
                    onward += first
                continue
            payload, end, check = self._rest[1:].partition(b"#")
            if b"$" in payload or len(payload) > PACKET_BYTES:
                raise ProtocolError
            if not end or len(check) < 2:
                break
            self._rest = check[2:]
            if packet(payload)[-2:] != check[:2].lower():
                back += AGAIN
            elif payload[:1] == b"k" or payload.startswith(b"vKill"):
                raise EndRequested
            elif allowed(payload):
                onward += packet(payload)
            else:
                # An empty answer says: not supported.
                self._refused += 1
                back += ACKNOWLEDGED + packet(b"")
        return onward, back
