"""Privileged helpers of Nova and Neutron, forked from one parent instead of started one by one.

oslo.privsep starts a helper program for each of its contexts; every one is a Python interpreter
that imports the service's privileged code again: 1.1 s and 45-110 MiB each. Here the program that
it starts is a tiny client (`main`), which hands its arguments to a server (`serve`). The server is
itself a fork of the preloading parent, has the privileged code imported, and forks a child that
runs oslo.privsep's own `helper_main` with those arguments, unchanged.

Protocol, over a Unix socket that only root can open: the client sends its arguments as JSON and
closes its side; the server answers with the exit status of `helper_main` as one byte.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path

# Modules with privsep contexts and their functions.
COMPUTE = ("vif_plug_ovs.privsep", "vif_plug_ovs.linux_net", "nova.privsep")
"""Of what runs on a compute node."""
NETWORK = (
    "neutron.privileged.agent.linux.ip_lib",
    "neutron.privileged.agent.linux.utils",
    "neutron.privileged.agent.ovsdb",
)
"""Of Neutron's OVN agent: 30 MiB."""


def serve() -> None:
    """Answer requests for helpers: SOCKET MODULE ... ; the modules are imported before."""
    path, *modules = sys.argv[1:]
    for module in modules:
        with suppress(ImportError):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()
    # Nobody waits for the forked children by hand.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        old = os.umask(0o177)
        listener.bind(path)
        os.umask(old)
        listener.listen(16)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """In a child: run the helper in a child of its own, report how it ended. Never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        arguments = json.loads(connection.makefile("rb").read())
        child = os.fork()
        if child == 0:
            connection.close()
            _become_helper([str(word) for word in arguments])
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(bytes([status & 0xFF]))
    finally:
        os._exit(0)


def _become_helper(arguments: list[str]) -> None:
    """`privsep-helper ARGUMENT ...`; it forks its daemon and ends. Never returns."""
    status = 1
    try:
        from oslo_privsep import daemon

        from dozencloud.supervision.serve import name_process

        name_process("privsep-helper", *arguments)
        sys.argv = ["privsep-helper", *arguments]
        daemon.helper_main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def main(arguments: list[str]) -> int:
    """The client: SOCKET ARGUMENT ... ; exit status of the helper."""
    path, *words = arguments
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(json.dumps(words).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1)
    return answer[0] if answer else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
