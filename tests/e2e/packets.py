"""Raw frames, and a program for a server that sends them."""

from __future__ import annotations

import base64
import struct
import subprocess
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from testcloud import Guest

SENDER = """
static long call(long n, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
static unsigned char frame[2048];
/* struct sockaddr_ll of the second interface, eth0 */
static struct { unsigned short family, protocol; int index; unsigned char rest[12]; } to;
void _start(void) {
  long fd = call(198, 17, 3, 0x0300, 0, 0, 0), size = 0, got;
  while ((got = call(63, 0, (long)frame + size, sizeof frame - size, 0, 0, 0)) > 0) size += got;
  to.family = 17; to.index = 2;
  got = call(206, fd, (long)frame, size, 0, (long)&to, sizeof to);
  call(94, got != size, 0, 0, 0, 0, 0);
}
"""
"""socket(AF_PACKET, SOCK_RAW, ETH_P_ALL); read; sendto; exit: by their numbers on arm64."""
PROGRAM = "/tmp/send"  # noqa: S108  (in the server)


def install(guest: Guest, folder: Path) -> None:
    """Put the program into the server."""
    source, made = folder / "send.c", folder / "send"
    source.write_text(SENDER)
    subprocess.run(
        [
            *("clang", "--target=aarch64-linux-gnu", "-O1", "-ffreestanding", "-fno-builtin"),
            *("-nostdlib", "-static", "-fuse-ld=lld", "-Wl,--build-id=none", "-Wl,--strip-all"),
            *(str(source), "-o", str(made)),
        ],
        check=True,
    )
    coded = base64.b64encode(made.read_bytes()).decode()
    guest.run(f"echo {coded} | base64 -d > {PROGRAM} && chmod +x {PROGRAM}", "root")


def sending(*frames: bytes) -> str:
    """Words of a shell that send these."""
    return "; ".join(
        f"echo {base64.b64encode(frame).decode()} | base64 -d | {PROGRAM}" for frame in frames
    )


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(int(word) for word in struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def link_local(text: str) -> IPv6Address:
    """The address that a card makes from its MAC."""
    own = mac(text)
    return IPv6Address(
        IPv6Address("fe80::").packed[:8] + bytes([own[0] ^ 2, *own[1:3], 0xFF, 0xFE, *own[3:]])
    )


def _summed(upper: bytes, place: int, pseudo: bytes) -> bytes:
    return upper[:place] + struct.pack("!H", checksum(pseudo + upper)) + upper[place + 2 :]


def ipv6(
    source: str, target: str, mac_target: str, proto: int, upper: bytes, *more: tuple[int, bytes]
) -> bytes:
    """A frame from a card's link-local address. more: extension headers, outermost first.

    Each is its number and its content behind the first byte, which names the next.
    """
    src, dst = link_local(source).packed, IPv6Address(target).packed
    pseudo = src + dst + struct.pack("!II", len(upper), proto)
    upper = _summed(upper, 2 if proto == 58 else 6, pseudo)
    kind = proto
    for number, content in reversed(more):
        upper, kind = bytes([kind]) + content + upper, number
    head = struct.pack("!IHBB", 6 << 28, len(upper), kind, 255) + src + dst
    return mac(mac_target) + mac(source) + b"\x86\xdd" + head + upper


def fragments(frame: bytes, size: int) -> list[bytes]:
    """The frame's IPv6 packet in parts; size: bytes of the first, in eights."""
    ethernet, head, rest = frame[:14], frame[14:54], frame[54:]
    parts = []
    for start in range(0, len(rest), size):
        part, last = rest[start : start + size], start + size >= len(rest)
        extra = struct.pack("!BBHI", head[6], 0, start | (not last), 4711)
        length = struct.pack("!H", len(extra) + len(part))
        parts.append(ethernet + head[:4] + length + bytes([44]) + head[7:] + extra + part)
    return parts


def ipv4(source: tuple[str, str], target: tuple[str, str], proto: int, upper: bytes) -> bytes:
    """source, target: MAC and address."""
    src, dst = IPv4Address(source[1]).packed, IPv4Address(target[1]).packed
    if proto == 17:
        upper = _summed(upper, 6, src + dst + struct.pack("!HH", proto, len(upper)))
    else:
        upper = _summed(upper, 2, b"")
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(upper), 1, 0, 64, proto, 0) + src + dst
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return mac(target[0]) + mac(source[0]) + b"\x08\x00" + head + upper


def udp(source: int, target: int, data: bytes = b"x" * 300) -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(data), 0) + data


def advertisement(sender: str, prefix: str) -> bytes:
    """A router's: an hour's default route, and a prefix for addresses (RFC 4861, 4.2 and 4.6)."""
    router = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 3600, 0, 0)
    link = b"\x01\x01" + mac(sender)
    network = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + IPv6Address(prefix).packed
    return router + link + network


def redirect(destination: str, by: str) -> bytes:
    """ICMPv6: the way to `destination` is by that neighbour (RFC 4861, 4.5)."""
    ways = IPv6Address(by).packed + IPv6Address(destination).packed
    return struct.pack("!BBHI", 137, 0, 0, 0) + ways


def icmp4(kind: int, rest: bytes) -> bytes:
    return struct.pack("!BBH", kind, 0, 0) + rest
