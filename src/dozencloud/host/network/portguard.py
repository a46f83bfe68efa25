"""Holds the flows of host/network/portflows.py in the running switch, on every node.

OVN's controller removes all flows when it starts (ofctrl.c, S_CLEAR_FLOWS); then ours are made
again at once.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dozencloud.cloud.installation import INTEGRATION_BRIDGE, load
from dozencloud.cloud.plan import Plan
from dozencloud.host.distributions import registry
from dozencloud.host.network import switching
from dozencloud.host.network.portflows import COOKIE, flows, free_ports, secured

RETRY_MS = 50
WRITE_SECONDS = 10
BINDINGS: Mapping[str, Any] = {
    "name": "OVN_Southbound",
    "version": "20.0.0",
    "tables": {
        "Port_Binding": {
            "columns": {
                "logical_port": {"type": "string"},
                "port_security": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
                "parent_port": {"type": {"key": "string", "min": 0, "max": 1}},
            }
        }
    },
}
"""Of OVN's schema what is read (ovn-sb.ovsschema, which only the controller's package has)."""
log = logging.getLogger("dozencloud.host.network.portguard")


class Switch:
    """OpenFlow to the integration bridge, by Open vSwitch's own program.

    One that is to write flows is started before it is needed, and waits for them: when OVN's
    controller has removed all flows, ours are back before it has made its own.
    """

    def __init__(self) -> None:
        self._watch: subprocess.Popen[bytes] | None = None
        self._out = -1
        self._writer = self._next()

    @staticmethod
    def _next() -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["ovs-ofctl", "-OOpenFlow14", "--bundle", "add-flows", INTEGRATION_BRIDGE, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def put(self, lines: list[str]) -> str:
        """All of these or none; returns what went wrong."""
        writer = self._writer
        try:
            _, wrong = writer.communicate("".join(f"{line}\n" for line in lines), WRITE_SECONDS)
        except subprocess.TimeoutExpired:
            writer.kill()
            writer.communicate()
            wrong = "the switch does not answer"
        self._writer = self._next()
        if not writer.returncode:
            return ""  # what it said is about itself: that it waited for long
        return wrong.strip().rpartition("\n")[2] or f"status {writer.returncode}"

    def watch(self) -> int:
        """A descriptor that can be read when flows of the first table were removed.

        First it can be because those come that are there: from then on nothing is missed.
        """
        if self._watch is None or self._watch.poll() is not None:
            if self._out >= 0:
                os.close(self._out)
            self._out, end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._watch = subprocess.Popen(
                ["ovs-ofctl", "monitor", INTEGRATION_BRIDGE, "watch:!add,!modify,table=0"],
                stdin=subprocess.DEVNULL,
                # What was there comes on one, what happens on the other.
                stdout=end,
                stderr=end,
            )
            os.close(end)
        return self._out

    def heard(self) -> bool:
        """Something was removed, or the switch went away, since the last call."""
        fd, some = self.watch(), False
        with suppress(BlockingIOError):
            while piece := os.read(fd, 64 * 1024):
                some = True
            if not piece and self._watch:  # it ended
                self._watch.wait()
                some = True
        return some


def changes(there: list[str] | None, wished: list[str]) -> list[str]:
    """What to tell the switch. there: what it was told last; None: what it has is not known.

    What stays is said again, not removed and made again: a removal would be heard.
    """
    if there is None:
        gone = [f"cookie={COOKIE:#x}/-1,table=0"]
    else:
        # Without cookie and actions.
        gone = [
            flow.partition(",actions=")[0].partition(",")[2] for flow in there if flow not in wished
        ]
    how = "delete" if there is None else "delete_strict"
    return [*(f"{how} {match}" for match in gone), *(f"add {flow}" for flow in wished)]


def _interfaces(idl: Any) -> list[tuple[int, str, str]]:
    return [
        (row.ofport[0], row.type, row.external_ids.get("iface-id", ""))
        for bridge in idl.tables["Bridge"].rows.values()
        if bridge.name == INTEGRATION_BRIDGE
        for port in bridge.ports
        for row in port.interfaces
        if row.ofport
    ]


def _secured(idl: Any) -> dict[str, bool]:
    rows = idl.tables["Port_Binding"].rows.values()
    return secured([(r.logical_port, bool(r.port_security), r.parent_port) for r in rows])


def _local(remote: str) -> Any:
    """The switch's own database."""
    from ovs.db import idl

    helper = idl.SchemaHelper(location=str(registry.here().paths.switch_schema))
    helper.register_columns("Bridge", ["name", "ports"])
    helper.register_columns("Port", ["interfaces"])
    helper.register_columns("Interface", ["ofport", "type", "external_ids"])
    return idl.Idl(remote, helper)


def _south(remote: str) -> Any:
    """OVN's southbound database."""
    from ovs.db import idl

    helper = idl.SchemaHelper(schema_json=BINDINGS)
    helper.register_all()
    return idl.Idl(remote, helper)


def keep(plan: Plan) -> None:
    """Hold the flows of the running switch to what they should be; for ever."""
    from ovs import poller, stream

    local = _local(f"unix:{switching.switch_socket(plan.cloud)}")
    if identity := switching.node_identity(plan):
        key, certificate, authority = map(str, identity)
        stream.Stream.ssl_set_private_key_file(key)
        stream.Stream.ssl_set_certificate_file(certificate)
        stream.Stream.ssl_set_ca_cert_file(authority)
    south = _south(switching.southbound_remote(plan))
    switch, said = Switch(), ""
    there: list[str] | None = None
    while True:
        local.run()
        south.run()
        removed = switch.heard()
        wished = flows(free_ports(_interfaces(local), _secured(south)))
        wrong = ""
        if removed or wished != there:
            wrong = switch.put(changes(there, wished))
            there = None if wrong else wished
        if wrong != said:
            log.warning("%s", wrong or "the switch has its flows")
        said = wrong
        waiting = poller.Poller()
        local.wait(waiting)
        south.wait(waiting)
        if wrong:
            # The bridge is not there yet, or the switch is being restarted.
            waiting.timer_wait(RETRY_MS)
        else:
            waiting.fd_wait(switch.watch(), poller.POLLIN)
        waiting.block()


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    root = os.environ.get("DOZEN_ROOT")
    keep(Plan.kept(load(Path(root) if root else None)))
