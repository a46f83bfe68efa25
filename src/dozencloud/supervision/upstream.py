"""Every name of the pinned supervisor, cheroot, oslo.service and oslo.privsep that we rely on.

A test holds each against the installed release.
"""

from __future__ import annotations

from collections.abc import Mapping

OVERRIDDEN: Mapping[str, tuple[str, ...]] = {
    "supervisor.options:ServerOptions.drop_privileges": ("self", "user"),
    "supervisor.options:ServerOptions.execve": ("self", "filename", "argv", "env"),
    "supervisor.options:ServerOptions.make_pipes": ("self", "stderr"),
    "supervisor.dispatchers:PDispatcher.close": ("self",),
    "supervisor.dispatchers:POutputDispatcher.record_output": ("self",),
    # `serve.OwnThreads` stands for all of it.
    "cheroot.workers.threadpool:ThreadPool.put": ("self", "obj"),
    "cheroot.workers.threadpool:ThreadPool.start": ("self",),
    "cheroot.workers.threadpool:ThreadPool.stop": ("self", "timeout"),
}
"""module:Class.method, of the class that defines it -> names of its parameters."""

REPLACED: Mapping[str, str] = {
    "supervisor.dispatchers:POutputDispatcher": "supervisor.options:ProcessConfig.make_dispatchers",
    "supervisor.supervisord:ServerOptions": "supervisor.supervisord:main",
}
"""What `daemon.main` puts something of ours in place of -> who looks it up there at each call."""

ORDER: Mapping[str, tuple[str, ...]] = {
    # `Options.drop_privileges` and `Options.execve` are called in the child, in this order; it
    # leads a process group of its own, which `Interface._ended` ends.
    "supervisor.process:Subprocess._spawn_as_child": ("setpgrp", "set_uid", "execve"),
    "supervisor.process:Subprocess.set_uid": ("drop_privileges",),
    # Who hears of an end can still ask for the pid and for the output.
    "supervisor.process:Subprocess.finish": ("change_state", "pid =", "dispatchers ="),
    "supervisor.options:ProcessConfig.make_dispatchers": ("make_pipes", "POutputDispatcher"),
    "supervisor.dispatchers:POutputDispatcher.handle_read_event": (
        *("output_buffer =", "record_output", "close"),
    ),
    "supervisor.supervisord:Supervisor.__init__": ("options =",),
    "supervisor.process:ProcessGroupBase.__init__": ("processes =",),
    # `serve.OwnThreads` takes the place of the pool between these two.
    "cheroot.wsgi:Server.__init__": ("requests =",),
    "cheroot.server:HTTPServer.prepare": ("start",),
    # `helpers` waits for the end of the first, not of the daemon that goes on.
    "oslo_privsep.daemon:helper_main": ("connect", "fork", "run"),
}
"""Function -> what it calls, and sets ("name ="): each for the last time before the next."""

USED: tuple[str, ...] = (
    "supervisor.dispatchers:POutputDispatcher.closed",
    "supervisor.dispatchers:POutputDispatcher.output_buffer",
    "supervisor.events:ProcessStateBackoffEvent",
    "supervisor.events:ProcessStateExitedEvent",
    "supervisor.events:ProcessStateRunningEvent",
    "supervisor.events:ProcessStateStartingEvent",
    "supervisor.events:ProcessStateStoppedEvent",
    "supervisor.events:Tick60Event",
    "supervisor.events:subscribe",
    "supervisor.options:ServerOptions.close_fd",
    "supervisor.options:ServerOptions.mood",
    "supervisor.options:ServerOptions.write",
    "supervisor.process:Subprocess.config",
    "supervisor.process:Subprocess.dispatchers",
    "supervisor.process:Subprocess.get_state",
    "supervisor.process:Subprocess.pid",
    "supervisor.process:Subprocess.spawn",
    "supervisor.rpcinterface:SupervisorNamespaceRPCInterface.addProcessGroup",
    "supervisor.rpcinterface:SupervisorNamespaceRPCInterface.getAllProcessInfo",
    "supervisor.rpcinterface:SupervisorNamespaceRPCInterface.getState",
    "supervisor.rpcinterface:SupervisorNamespaceRPCInterface.reloadConfig",
    "supervisor.rpcinterface:SupervisorNamespaceRPCInterface.removeProcessGroup",
    "supervisor.rpcinterface:SupervisorNamespaceRPCInterface.shutdown",
    "supervisor.rpcinterface:SupervisorNamespaceRPCInterface.startProcess",
    "supervisor.rpcinterface:SupervisorNamespaceRPCInterface.stopProcess",
    "supervisor.rpcinterface:make_main_rpcinterface",
    "supervisor.states:ProcessStates.FATAL",
    "supervisor.states:SupervisorStates.RUNNING",
    "supervisor.supervisord:Supervisor.process_groups",
    "supervisor.supervisord:main",
    "supervisor.xmlrpc:SupervisorTransport",
    "cheroot.server:ChunkedRFile.read_trailer_lines",
    "cheroot.server:HTTPConnection.close",
    "cheroot.server:HTTPConnection.communicate",
    "cheroot.server:HTTPServer.max_request_header_size",
    "cheroot.server:HTTPServer.prepare",
    "cheroot.server:HTTPServer.serve",
    "cheroot.server:HTTPServer.server_name",
    "cheroot.server:HTTPServer.start",
    "cheroot.server:HTTPServer.stop",
    "cheroot.wsgi:Server",
    "oslo_privsep.daemon:helper_main",
    "oslo_service.backend:BackendType.THREADING",
    "oslo_service.backend:init_backend",
)
"""Called, read or subclassed."""
