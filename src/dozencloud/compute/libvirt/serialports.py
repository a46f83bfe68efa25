"""TCP ports of serial consoles, given out in turn.

Upstream gives the lowest free one, and takes a server's port back each time that its domain is
destroyed: also the second time, when another server was just given it. Then a third one is given
it as well, and does not start ("Address already in use"). In turn, a port comes again last.
"""

from __future__ import annotations

import itertools
import random
import threading

from nova.console import serial
from nova.exception import SocketPortInUseException, SocketPortRangeExhaustedException

# After a restart of nova-compute, too, the next one is not one of the last.
_turns = itertools.count(random.randrange(1 << 16))  # noqa: S311  (no secret)
_lock = threading.Lock()


def acquire(host: str) -> int:
    """A port of [serial_console] port_range that no server has and nobody listens on."""
    start, stop = serial._get_port_range()
    with _lock:
        for _ in range(start, stop):
            port = start + next(_turns) % (stop - start)
            if (host, port) in serial.ALLOCATED_PORTS:
                continue
            try:
                serial._verify_port(host, port)
            except SocketPortInUseException:
                continue
            serial.ALLOCATED_PORTS.add((host, port))
            return int(port)
    raise SocketPortRangeExhaustedException(host=host)


def use() -> None:
    """Put this in the place of upstream's."""
    serial.acquire_port = acquire
