"""nginx: the one public port, with TLS from the cloud's own CA; plain HTTP on loopback inside.

The services' Unix sockets are behind it. The loopback port is for the services themselves.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import dozencloud
from dozencloud.cloud import tls
from dozencloud.cloud.installation import NODE_CONSOLES_PORT, Cloud
from dozencloud.cloud.membership import nodes_folder
from dozencloud.cloud.plan import Plan, Role
from dozencloud.hooks.transfers import AT_A_TIME
from dozencloud.host.confinement import Confinement
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.needs import Need
from dozencloud.host.processes import alive, children, read
from dozencloud.services.glance import IMAGE_DATA
from dozencloud.services.keystone import IDENTITY, KEYSTONE, LOGINS
from dozencloud.supervision.ready import listening
from dozencloud.supervision.service import GROUP, Api, Definition, File, Folder, Service, api_socket

USER = "dozen-gateway"
NEEDS = (Need.STREAMS, Need.GATEWAY)

# Seconds and counts: what one client may hold of the gateway. A class sits behind one address, so
# counts are for a class; what slow ones hold is connections of nginx, which cost it some KiB each.
HEAD_SECONDS = 10
"""For all of a request's head, the TLS handshake included."""
BODY_SECONDS = 20
"""Between two reads of a body, and between two writes of an answer."""
DATA_SECONDS = 60
"""The same for image data, which may come from a slow disk."""
IDLE_SECONDS = 60
REQUESTS_PER_ADDRESS = 400
TRANSFERS_PER_ADDRESS = 64
TRANSFERS_PER_TOKEN = AT_A_TIME
"""Glance's own count is by user, but what is beyond it costs Glance a look at token and limits."""
TRANSFERS = 256
"""From outside, so that the threads for image data (glance.IMAGE_DATA) are not all taken."""
CONSOLES_PER_ADDRESS = 100
LOGINS_PER_SECOND, LOGINS_AT_ONCE, LOGINS_QUEUED = 10, 40, 100
"""Of one address. Keystone itself chooses whose turn it is (hooks/logins.py)."""
BROKER_PER_ADDRESS = 256
"""A node has up to some 30, and several may come from one address."""

LOGIN = "^/identity/v3/(auth/tokens|users/[^/]+/password|OS-OAUTH2/token)/*$"
"""Where a password can be tried; to change one's own takes the old one."""
DATA = "^/image/(.*/)?(file|stage)/*$"
"""Uploads and downloads, whichever of its versions Glance is asked by."""

HSTS_SECONDS = 86400
"""A browser remembers the host name, for all of its ports, and then lets nobody pass a warning: a
cloud that was destroyed and made anew, with another authority, is locked out for that long."""
TLS = f"ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_ciphers {tls.CIPHERS};"

SENTENCES = {
    400: "The gateway does not understand this request.",
    408: "The request came too slowly. Try again.",
    413: "The body of this request is larger than this API takes.",
    414: "The address of this request is too long.",
    429: "Too many requests from you at a time. Try again in a few seconds.",
    431: "The head of this request is too large.",
    503: "This service of the cloud is not running. See: dozen status",
}
TITLES = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
CAUSES = {400: "400", 408: "408", 413: "413", 414: "414", 429: "429", 431: "494", 503: "502 504"}
"""By which status nginx finds it; what a service itself answers is passed on as it is."""
HEADERS = f"""\
add_header Strict-Transport-Security max-age={HSTS_SECONDS} always;
      add_header X-Content-Type-Options nosniff always;"""
"""Of every answer; to be said again where there is another add_header."""


def _refusals() -> str:
    """The gateway's own answers, in the shape in which OpenStack's clients look for a sentence."""
    answers = []
    for status, sentence in SENTENCES.items():
        later = "add_header Retry-After 5 always;\n      " if status in (429, 503) else ""
        said = {"code": status, "title": TITLES[status], "message": sentence}
        answers.append(f"""\
    error_page {CAUSES[status]} ={status} /-/{status};
    location = /-/{status} {{
      internal;
      default_type application/json;
      {later}{HEADERS}
      return {status} '{json.dumps({"error": said})}\\n';
    }}
""")
    return "".join(answers)


def _passed(host: str, address: str, connection: str = '""') -> str:
    """Headers for a service: nothing in them is the client's word, links lead where we say."""
    return f"""\
proxy_set_header Connection {connection};
      proxy_set_header Host {host};
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For {address};
      proxy_set_header X-Forwarded-Host "";
      proxy_set_header X-Forwarded-Prefix "";
      proxy_set_header Forwarded "";"""


def _locations(api: Api, upstream: str, public: bool) -> str:
    """Where requests to one API go."""
    limited = api.rate if public else None
    rate = f"limit_req zone={upstream} burst={limited.burst}; " if limited else ""
    return "".join(
        f"    location {which} {{"
        f" proxy_pass http://{upstream}; client_max_body_size {api.body}; {rate}}}\n"
        for which in (f"/{api.path}/", f"= /{api.path}")
    )


def _apis(cloud: Cloud, behind: Mapping[str, Api], public: bool) -> str:
    """Where requests go: whole ones only, except image data, which streams."""
    if public:
        host, address = cloud.public_url.removeprefix("https://"), "$remote_addr"
        login = f"limit_req zone=logins burst={LOGINS_QUEUED} delay={LOGINS_AT_ONCE};"
        data = (
            f"limit_conn transfers {TRANSFERS_PER_ADDRESS};\n"
            f"      limit_conn tokens {TRANSFERS_PER_TOKEN};\n"
            f"      limit_conn data {TRANSFERS};"
        )
    else:
        host, address = cloud.internal_url.removeprefix("http://"), '""'
        login = data = ""
    plain = "".join(
        _locations(api, name, public) for name, api in behind.items() if public or api.internal
    )
    return f"""\
    {_passed(host, address)}
{plain}\
    # Keystone strips slashes at the end. POST: reading and ending a token is no login.
    location ~ "{LOGIN}" {{
      proxy_pass http://$keystone;
      client_max_body_size {IDENTITY.body};
      {_passed(host, address, "$keystone_connection")}
      {login}
    }}
    location ~ "{DATA}" {{
      proxy_pass http://{IMAGE_DATA.name};
      client_max_body_size 0;
      client_body_timeout {DATA_SECONDS}s;
      send_timeout {DATA_SECONDS}s;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      {_passed(host, address, "close")}
      {data}
    }}
"""


def _upstreams(cloud: Cloud, behind: Mapping[str, Api]) -> str:
    """The sockets of the services, and what asks of addresses are counted in."""
    lines = []
    for service, api in behind.items():
        lanes = [api.lane.name] if api.lane else []
        for name, kept in [(service, "keepalive 4; "), *((lane, "") for lane in lanes)]:
            lines.append(f"  upstream {name} {{ server unix:{api_socket(cloud, name)}; {kept}}}")
        if rate := api.rate:
            zone = f"zone={service}:1m rate={rate.per_second}r/s"
            lines.append(f"  limit_req_zone $binary_remote_addr {zone};")
    return "\n".join(lines)


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


def _consoles(port: int) -> str:
    """Pages, and beside each the socket that it opens, which goes to Nova's proxy."""
    sockets = "".join(
        f"""\
    location = /console/{kind}/socket {{
      proxy_pass http://127.0.0.1:{port};
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      # It compares the page's address with this, and makes no link of it.
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      # Nobody types for hours; keep-alive packets (above) find a client that is gone.
      proxy_read_timeout 1d;
      proxy_send_timeout 1d;
      limit_conn consoles {CONSOLES_PER_ADDRESS};
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
      add_header Content-Security-Policy "{POLICY}";
      {HEADERS}
    }}
{sockets}"""


def load_stream() -> str:
    """The first line of an nginx.conf that has a `stream` in it."""
    return f"load_module {registry.here().paths.nginx_modules}/ngx_stream_module.so;\n"


CONNECTIONS = 8192
"""Of clients, slow ones included, and to services; each costs half a KiB beforehand."""
CONNECTIONS_WITH_NODES = 16384
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
  limit_conn_zone $binary_remote_addr zone=broker:1m;
  # Broker. A session that is taken up again is not checked again, so there are none.
  server {{
    listen {cloud.settings.nodes.broker} ssl so_keepalive=30s:10s:3;
    ssl_certificate {place}/gateway.crt;
    ssl_certificate_key {place}/gateway.key;
    ssl_client_certificate {trusted};
    ssl_verify_client on;
    {TLS}
    ssl_session_tickets off;
    ssl_handshake_timeout {HEAD_SECONDS}s;
    limit_conn broker {BROKER_PER_ADDRESS};
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
    """Make the running nginx use its changed files; what its connections carry goes on.

    Whoever connects after it meets the new files: no worker of before takes a connection, and
    those that it kept without a request are closed.
    """
    before = set(children(pid))
    os.kill(pid, signal.SIGHUP)
    end = time.monotonic() + RELOAD_SECONDS
    while time.monotonic() < end:
        # It makes new workers once files are read and ports are open, then tells the others.
        if set(children(pid)) - before and all(map(_leaves, before)):
            return True
        time.sleep(0.05)
    return False


def _leaves(pid: int) -> bool:
    """The worker is gone or says so (nginx, ngx_worker_process_cycle)."""
    return any(b"shutting down" in word for word in read(pid, "cmdline")) or not alive(pid)


HTTP = f"""\
  access_log off;
  server_tokens off;
  # A slow client costs the gateway, not a thread of a service: requests are passed on when they are
  # whole, and answers are taken at once.
  proxy_request_buffering on;
  proxy_buffering on;
  proxy_buffers 16 16k;
  proxy_max_temp_file_size 64m;
  client_max_body_size 64k;
  client_header_timeout {HEAD_SECONDS}s;
  client_body_timeout {BODY_SECONDS}s;
  send_timeout {BODY_SECONDS}s;
  keepalive_timeout {IDLE_SECONDS}s;
  lingering_time {HEAD_SECONDS}s;
  reset_timedout_connection on;
  absolute_redirect off;
  proxy_http_version 1.1;
  proxy_read_timeout 300s;
  limit_req_status 429;
  limit_conn_status 429;
  map $request_method $keystone {{ POST {LOGINS.name}; default {KEYSTONE.name}; }}
  map $request_method $keystone_connection {{ POST close; default ""; }}
  map $request_method $guesser {{ POST $binary_remote_addr; default ""; }}
  limit_req_zone $guesser zone=logins:10m rate={LOGINS_PER_SECOND}r/s;
  limit_conn_zone $binary_remote_addr zone=requests:10m;
  limit_conn_zone $binary_remote_addr zone=transfers:10m;
  limit_conn_zone $http_x_auth_token zone=tokens:10m;
  limit_conn_zone $binary_remote_addr zone=consoles:10m;
  limit_conn_zone $server_port zone=data:1m;
"""
"""What holds for all requests."""

NOTHING_HERE = (
    'location / { default_type text/plain; return 404 "DozenCloud: APIs are below /identity.\\n"; }'
)


def _http(plan: Plan, behind: Mapping[str, Api]) -> str:
    """The two ports: TLS for everybody, plain on loopback for the services."""
    cloud = plan.cloud
    spool = cloud.lib / "gateway"
    spooled = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    spools = "".join(
        f"  {kind}_temp_path {spool}/{kind.removeprefix('client_')};\n" for kind in spooled
    )
    return f"""\
http {{
{spools}{HTTP}{_upstreams(cloud, behind)}
  server {{
    listen {cloud.settings.gateway.port} ssl so_keepalive=5m:30s:4;
    ssl_certificate {cloud.etc}/tls/gateway.crt;
    ssl_certificate_key {cloud.etc}/tls/gateway.key;
    {TLS}
    ssl_session_cache shared:tls:1m;
    {HEADERS}
    limit_conn requests {REQUESTS_PER_ADDRESS};
    error_page 497 =400 @plain;
    location @plain {{ default_type text/plain; return 400 "This port speaks HTTPS only.\\n"; }}
{_refusals()}\
{_apis(cloud, behind, public=True)}\
{_consoles(cloud.settings.internal.consoles)}\
    location = /ca.crt {{ default_type application/x-x509-ca-cert; alias {cloud.ca}; }}
    {NOTHING_HERE}
  }}
  server {{
    listen 127.0.0.1:{cloud.settings.internal.api};
{_refusals()}\
{_apis(cloud, behind, public=False)}\
    {NOTHING_HERE}
  }}
}}
"""


def _config(plan: Plan, behind: Mapping[str, Api]) -> str:
    """nginx.conf"""
    connections = CONNECTIONS_WITH_NODES if plan.has_nodes else CONNECTIONS
    return f"""\
{load_stream() if plan.has_nodes else ""}\
daemon off;
user {USER} {GROUP};
worker_processes 1;
{LAST}\
pid {plan.cloud.run}/gateway/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile {2 * connections};
events {{ worker_connections {connections}; }}
{_nodes(plan) if plan.has_nodes else ""}\
{_http(plan, behind)}"""


def in_front_of(every: Callable[[], Sequence[Definition]]) -> Definition:
    """The gateway, which passes on what those of these services take that are on its machine."""

    def describe(plan: Plan) -> Service:
        cloud = plan.cloud
        etc, run, spool = (folder / "gateway" for folder in (cloud.etc, cloud.run, cloud.lib))
        certificates = tls.folder(cloud)
        of_nodes = (certificates / "controller.crt", nodes_folder(cloud) / "trusted.crt")
        behind = {each.name: each.api for each in every() if each.api and each.here(plan)}
        return Service(
            gateway,
            command=["nginx", "-c", str(etc / "nginx.conf"), "-e", "stderr"],
            # What is spooled is passwords and answers, and may be more than fits into memory.
            # nginx makes folders in it for its worker alone.
            folders=(
                Folder(etc),
                Folder(run, group=GROUP, mode=0o710),
                Folder(spool, group=GROUP, mode=0o710),
            ),
            files=(File(etc / "nginx.conf", _config(plan, behind)),),
            confinement=NGINX,
            reads=(certificates / "gateway.crt", *(of_nodes if plan.has_nodes else ())),
            after=("certificates", *(("node-certificates",) if plan.has_nodes else ())),
            reload=reload,
            ready=listening(cloud, cloud.settings.internal.api),
            listens=f"{cloud.address}:{cloud.settings.gateway.port}",
        )

    gateway = Definition(
        name="gateway",
        title="Public port (nginx)",
        describe=describe,
        roles=frozenset((Role.CONTROL,)),
        needs=NEEDS,
        root="the master binds a port below 1024 and reads the key; its worker, which speaks to "
        f"clients, is `{USER}`",
    )
    return gateway
