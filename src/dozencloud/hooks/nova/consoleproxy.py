"""Starts Nova's console proxy, which reaches servers of other machines through the gateway.

There nginx adds TLS, with the certificates of both sides.
"""

from __future__ import annotations

from typing import Any

LOOPBACK = "127.0.0.1"


def destination(host: str, port: int) -> bytes:
    """What nginx hears first: where to go, as proxies tell each other for whom they speak.

    https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, 2.1
    """
    return f"PROXY TCP4 {LOOPBACK} {host} 1 {port}\r\n".encode()


def main() -> None:
    """Take the command line of nova-serialproxy; return when it ends."""
    # First of all that is Nova's: it chooses between threads and eventlet for the whole process.
    from nova.cmd import serialproxy  # isort: skip
    import nova.conf
    from nova.console import websocketproxy
    from oslo_config import cfg

    conf = nova.conf.CONF
    port = cfg.PortOpt("node_consoles", help="Port of the gateway that leads to nodes' consoles.")
    conf.register_opts([port], "dozencloud")

    class Handler(websocketproxy.NovaProxyRequestHandler):  # type: ignore[misc]
        def socket(self, host: str, port: int, connect: bool = False) -> Any:
            if host == LOOPBACK:
                return super().socket(host, port, connect=connect)
            end = super().socket(LOOPBACK, conf.dozencloud.node_consoles, connect=connect)
            end.sendall(destination(host, port))
            return end

    websocketproxy.NovaProxyRequestHandler = Handler
    serialproxy.main()
