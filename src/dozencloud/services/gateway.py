"""nginx: the one public port, with TLS from the cloud's own CA; plain HTTP on loopback inside.

The services' Unix sockets are behind it. The loopback port is for the services themselves.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dozencloud
from dozencloud import tls
from dozencloud.cloud import NODE_CONSOLES_PORT
from dozencloud.confinement import Confinement
from dozencloud.membership import nodes_folder
from dozencloud.processes import children
from dozencloud.services.base import GROUP, File, Folder, Plan, Role, Service, api_socket, listening

USER = "dozen-gateway"
APIS = {
    "identity": "keystone",
    "image": "glance",
    "compute": "nova-api",
    "placement": "placement",
    "network": "neutron",
}

RELOAD_SECONDS = 10
LAST = "worker_shutdown_timeout 1d;\n"
"""After a reload, workers of before end with their last connection, and after this time at the
latest: connections to the broker never end by themselves. As long as a silent console may be."""

NGINX = Confinement(
    capabilities=(
        "chown",  # folders for what its workers keep on disk
        "kill",  # workers of before that do not end
        "net_bind_service",
        "setgid",  # workers are another user
        "setuid",
        "sys_resource",  # more open files than the supervisor has
    )
)
"""Of its master, which is root; workers have none, as all users' processes."""

PAGES = Path(dozencloud.__file__).parent / "data" / "console"
"""Pages that show a console in a browser."""
POLICY = (
    "default-src 'self'; img-src 'self' data:; "
    # xterm.js styles its rows so.
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)


NODES = """\
    location /nodes/ {
      proxy_pass http://nodes;
      client_max_body_size 64k;
      proxy_request_buffering on;
      # Tokens have 192 random bits; this keeps guesses from costing time.
      limit_req zone=nodes burst=20;
    }
"""
"""Where machines join and nodes report."""


def _consoles(port: int) -> str:
    """Pages, and beside each the socket that it opens, which goes to Nova's proxy."""
    sockets = "".join(
        f"""\
    location = /console/{kind}/socket {{
      proxy_pass http://127.0.0.1:{port};
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      # Nobody types for hours; keep-alive packets (above) find a client that is gone.
      proxy_read_timeout 1d;
      proxy_send_timeout 1d;
    }}
"""
        for kind in ("serial", "vnc")
    )
    return f"""\
    location /console/ {{
      alias {PAGES}/;
      types {{ text/html html; text/css css; text/javascript js mjs; }}
      default_type text/plain;
      add_header Cache-Control no-cache;
      # A token is in the address of a page.
      add_header Referrer-Policy no-referrer;
      add_header X-Content-Type-Options nosniff;
      add_header Content-Security-Policy "{POLICY}";
    }}
{sockets}"""


LOAD_STREAM = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"

CONNECTIONS = 512
CONNECTIONS_WITH_NODES = 8192
"""Two for each connection of a node to RabbitMQ, of which it has up to some 30."""


def _nodes(plan: Plan) -> str:
    """What nodes and the controller have from each other, both known by their certificates."""
    cloud = plan.cloud
    place = tls.folder(cloud)
    trusted = nodes_folder(cloud) / "trusted.crt"
    return f"""\
stream {{
  # The names in a node's certificate (membership.console_name) are its address with dashes.
  map $proxy_protocol_server_addr:$proxy_protocol_server_port $console {{
    "~^(\\d+)\\.(\\d+)\\.(\\d+)\\.(\\d+):(\\d+)$" "$5.$1-$2-$3-$4.node";
  }}
  # Broker. A session that is taken up again is not checked again, so there are none.
  server {{
    listen {cloud.settings.nodes.broker} ssl so_keepalive=30s:10s:3;
    ssl_certificate {place}/gateway.crt;
    ssl_certificate_key {place}/gateway.key;
    ssl_client_certificate {trusted};
    ssl_verify_client on;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets off;
    proxy_pass 127.0.0.1:{cloud.settings.internal.broker};
    # Both sides send heartbeats every few seconds.
    proxy_timeout 1m;
  }}
  # Consoles of servers on nodes. The console proxy says first where it wants to go.
  server {{
    listen 127.0.0.1:{cloud.settings.internal.node_consoles} proxy_protocol;
    proxy_pass $proxy_protocol_server_addr:{NODE_CONSOLES_PORT};
    proxy_ssl on;
    proxy_ssl_certificate {place}/controller.crt;
    proxy_ssl_certificate_key {place}/controller.key;
    proxy_ssl_trusted_certificate {trusted};
    proxy_ssl_verify on;
    proxy_ssl_name $console;
    proxy_ssl_server_name on;
    proxy_ssl_session_reuse off;
    proxy_connect_timeout 10s;
    proxy_socket_keepalive on;
    proxy_timeout 1d;
  }}
}}
"""


def reload(pid: int) -> bool:
    """Make the running nginx use its changed files; what its connections carry goes on."""
    before = set(children(pid))
    os.kill(pid, signal.SIGHUP)
    end = time.monotonic() + RELOAD_SECONDS
    while time.monotonic() < end:
        # It makes new workers once the files are read and the ports are open.
        if set(children(pid)) - before:
            return True
        time.sleep(0.05)
    return False


def service(plan: Plan) -> Service:
    cloud = plan.cloud
    etc, run = cloud.etc / "gateway", cloud.run / "gateway"
    connections = CONNECTIONS_WITH_NODES if plan.has_nodes else CONNECTIONS
    apis = "\n".join(
        f"    location /{path}/ {{ proxy_pass http://{name}; }}\n"
        f"    location = /{path} {{ proxy_pass http://{name}; }}"
        for path, name in APIS.items()
    )
    upstreams = "\n".join(
        f"  upstream {name} {{ server unix:{api_socket(cloud, name)}; keepalive 4; }}"
        for name in [*APIS.values(), *(["nodes"] if plan.takes_nodes else [])]
    )
    nodes = NODES if plan.takes_nodes else ""
    port = cloud.settings.gateway.port
    config = f"""\
{LOAD_STREAM if plan.has_nodes else ""}\
daemon off;
user {USER} {GROUP};
worker_processes 1;
{LAST}\
pid {run}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile {2 * connections};
events {{ worker_connections {connections}; }}
{_nodes(plan) if plan.has_nodes else ""}\
http {{
  access_log off;
  server_tokens off;
  client_body_temp_path {run}/body;
  proxy_temp_path {run}/proxy;
  fastcgi_temp_path {run}/fastcgi;
  uwsgi_temp_path {run}/uwsgi;
  scgi_temp_path {run}/scgi;
  # Images are streamed through, whatever their size.
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_buffering off;
  proxy_http_version 1.1;
  proxy_read_timeout 300s;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-For $remote_addr;
{upstreams}
  limit_req_zone $binary_remote_addr zone=nodes:1m rate=5r/s;
  server {{
    listen {port} ssl so_keepalive=5m:30s:4;
    ssl_certificate {cloud.etc}/tls/gateway.crt;
    ssl_certificate_key {cloud.etc}/tls/gateway.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:1m;
    error_page 497 =400 @plain;
    location @plain {{ default_type text/plain; return 400 "This port speaks HTTPS only.\\n"; }}
    error_page 502 504 @away;
    location @away {{
      default_type text/plain;
      return 503 "This service of the cloud is not running. See: dozen status\\n";
    }}
{apis}
{_consoles(cloud.settings.internal.consoles)}{nodes}\
    location = /ca.crt {{ default_type application/x-x509-ca-cert; alias {cloud.ca}; }}
    location / {{ default_type text/plain; return 404 "DozenCloud: APIs are below /identity.\\n"; }}
  }}
  server {{
    listen 127.0.0.1:{cloud.settings.internal.api};
{apis}
    location / {{ default_type text/plain; return 404 "DozenCloud: APIs are below /identity.\\n"; }}
  }}
}}
"""
    return Service(
        name="gateway",
        title="Public port (nginx)",
        role=Role.CONTROL,
        command=["nginx", "-c", str(etc / "nginx.conf"), "-e", "stderr"],
        folders=(Folder(etc), Folder(run, group=GROUP, mode=0o710)),
        files=(File(etc / "nginx.conf", config),),
        confinement=NGINX,
        reads=(
            tls.folder(cloud) / "gateway.crt",
            *(
                (tls.folder(cloud) / "controller.crt", nodes_folder(cloud) / "trusted.crt")
                if plan.has_nodes
                else ()
            ),
        ),
        reload=reload,
        ready=listening(cloud, cloud.settings.internal.api),
        listens=f"{cloud.address}:{port}",
    )
