"""nginx on a node: from the controller, by TLS, to the consoles of the servers on this node.

These speak plain TCP on loopback and ask for no password. One port leads to all of them: the first
word of the name that the controller asks for (SNI) is the port on loopback.
"""

from __future__ import annotations

from dozencloud.cloud import tls
from dozencloud.cloud.installation import CONSOLE_USER, NODE_CONSOLES_PORT
from dozencloud.cloud.plan import Plan, Role
from dozencloud.services.gateway import (
    HEAD_SECONDS,
    LAST,
    NEEDS,
    NGINX,
    TLS,
    load_stream,
    reload,
)
from dozencloud.supervision.ready import listening
from dozencloud.supervision.service import GROUP, Definition, File, Folder, Service


def describe(plan: Plan) -> Service:
    """The workers' user is the one that may connect to consoles (plumbing.guard)."""
    cloud, given = plan.cloud, plan.given
    etc, run = cloud.etc / "gate", cloud.run / "gate"
    own = tls.folder(cloud) / "node"
    config = f"""\
{load_stream()}\
daemon off;
user {CONSOLE_USER} {GROUP};
worker_processes 1;
{LAST}\
pid {run}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
stream {{
  map $ssl_server_name $console {{
    # Consoles are from 20000 on; gdb's connection is on any port that was free.
    "~^([2-5]\\d\\d\\d\\d|6[0-5]\\d\\d\\d)\\." 127.0.0.1:$1;
  }}
  server {{
    listen {given.address}:{NODE_CONSOLES_PORT} ssl;
    ssl_certificate {own}.crt;
    ssl_certificate_key {own}.key;
    # It issues certificates to the controller only; those of nodes are another authority's.
    ssl_client_certificate {cloud.ca};
    ssl_verify_client on;
    {TLS}
    ssl_session_tickets off;
    ssl_handshake_timeout {HEAD_SECONDS}s;
    proxy_pass $console;
    proxy_socket_keepalive on;
    proxy_timeout 1d;
  }}
}}
"""
    return Service(
        GATE,
        command=["nginx", "-c", str(etc / "nginx.conf"), "-e", "stderr"],
        folders=(Folder(etc), Folder(run, group=GROUP, mode=0o710)),
        files=(File(etc / "nginx.conf", config),),
        confinement=NGINX,
        reads=(tls.folder(cloud) / "node.crt", cloud.ca),
        reload=reload,
        ready=listening(cloud, NODE_CONSOLES_PORT, given.address),
        listens=f"{given.address}:{NODE_CONSOLES_PORT}",
    )


GATE = Definition(
    name="node-gate",
    title="Way to the consoles of this node (nginx)",
    describe=describe,
    roles=frozenset((Role.COMPUTE,)),
    wanted=lambda plan: not plan.controls,
    root="reads the node's key; its worker, which others connect to, is `dozen-nova`",
    needs=NEEDS,
)
