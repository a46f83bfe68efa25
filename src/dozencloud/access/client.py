"""What a client of the cloud needs: environment, address of a server."""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

from oslo_utils.uuidutils import is_uuid_like

from dozencloud.access.administrator import CLOUD_NAME
from dozencloud.cloud import guards
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.state import State
from dozencloud.errors import Exit, Problem, causes, network_reason
from dozencloud.supervision import client


def clouds_yaml(cloud: Cloud) -> Path:
    """The administrator's clouds.yaml; Problem if it cannot be read."""
    guards.need_cloud(cloud)
    guards.need_controller(cloud)
    path = cloud.etc / "clouds.yaml"
    if not path.exists():
        raise Problem("This cloud was never brought up completely.", f"Run: {cloud.command('up')}")
    if not os.access(path, os.R_OK):
        raise Problem(f"{path} is for root only: the password is in it.", "Use sudo.")
    return path


def named() -> bool:
    """Whether the environment says who asks, and of which cloud."""
    return bool(os.environ.get("OS_CLOUD") or os.environ.get("OS_AUTH_URL"))


def connect(cloud: Cloud) -> Any:
    """openstacksdk connection as whom OS_CLOUD or OS_AUTH_URL say, else as administrator."""
    from openstack.config import OpenStackConfig
    from openstack.connection import Connection
    from openstack.exceptions import ConfigException

    if named():
        try:
            return Connection(config=OpenStackConfig(app_name="dozen").get_one())
        except ConfigException as error:
            raise Problem(
                f"The settings of your OpenStack client are not complete: {error}",
                "See OS_CLOUD and clouds.yaml.",
            ) from error
    path = clouds_yaml(cloud)
    client.need_running(cloud)
    files = [str(path)]
    config = OpenStackConfig(config_files=files, load_envvars=False, app_name="dozen")
    return Connection(config=config.get_one(CLOUD_NAME))


def refusal(error: BaseException, cloud: Cloud | None) -> Problem | None:
    """What a failure of the cloud's APIs means for a person; None for any other error.

    cloud: this machine's, asked as its administrator; None where the environment says who asks.
    """
    if "openstack" not in sys.modules:
        return None
    from keystoneauth1 import exceptions as auth
    from openstack import exceptions as sdk

    from dozencloud.services.gateway import SENTENCES

    if isinstance(error, sdk.HttpException | auth.HttpError):
        status = getattr(error, "status_code", None) or getattr(error, "http_status", None) or 0
        said = " ".join(str(error.details or error.message).split()).removesuffix(".")
        if status == 401:
            return _not_taken(cloud)
        if status == NOT_RUNNING and SENTENCES[NOT_RUNNING] in said:
            return _silent(error, cloud)
        if status >= 500:
            return Problem(
                f"The cloud failed at this ({status}): {said}.",
                f"See: {cloud.command('status')}"
                if cloud
                else "Its administrator sees more: dozen status, dozen logs",
            )
        return Problem(f"The cloud refuses this: {said}.")
    if isinstance(error, auth.ConnectFailure | auth.SSLError | auth.DiscoveryFailure):
        return _silent(error, cloud)
    if isinstance(error, auth.ClientException | sdk.SDKException):
        return Problem(f"The cloud cannot be asked: {' '.join(str(error).split())[:300]}")
    return None


NOT_RUNNING = 503
"""The gateway says so, with a sentence of its own, where a service does not run."""


def _not_taken(cloud: Cloud | None) -> Problem:
    if cloud is None:
        return Problem(
            "The cloud does not take this user and password.", "See OS_CLOUD and clouds.yaml."
        )
    return Problem(
        "The cloud does not take its administrator's password any more: somebody changed it, or "
        f"{cloud.secrets_file}, where it is kept.",
        f"To make it that of the file again, run: {cloud.command('up')}",
        code=Exit.DEGRADED,
    )


def _silent(error: BaseException, cloud: Cloud | None) -> Problem:
    """The cloud does not answer: why not, and who mends that."""
    from keystoneauth1 import exceptions as auth

    chain = list(causes(error))
    # Of openstacksdk's errors, and of keystoneauth's.
    statuses = (getattr(e, name, None) for e in chain for name in ("status_code", "http_status"))
    status = next(filter(None, statuses), 0)
    why = f"status {status}" if status else network_reason(error)
    if cloud:
        registered = State.of(cloud).get("catalogue")
        return Problem(
            f"The cloud's API does not answer {'any more' if registered else 'yet'} ({why}).",
            f"Run: {cloud.command('start' if registered else 'up')}",
            code=Exit.DEGRADED,
        )
    found = re.search(r"https?://[^\s/'\"]+[^\s/'\":.,]", f"{getattr(error, 'url', '')} {error}")
    at = f" at {found[0]}" if found else ""
    if any(isinstance(each, auth.SSLError) for each in chain):
        return Problem(
            f"The certificate of the cloud{at} is not to be trusted.",
            "Its own authority signed it: ask its administrator for that file (ca.crt), and name "
            "it in clouds.yaml (cacert) or OS_CACERT.",
        )
    return Problem(f"The cloud{at} does not answer ({why}).", "Ask its administrator.")


LONGEST_NAME = 255
"""Characters (nova/api/validation/parameter_types.py), and of a pattern (supervision/guard.py)."""


def find_server(sdk: Any, name: str) -> Any:
    """The server of that name or id, of any project that this user may see.

    One of the user's own project comes before others of its name. Problem if there is none, or
    more than one.
    """
    from openstack.exceptions import NotFoundException

    found = []
    if is_uuid_like(name):
        with suppress(NotFoundException):
            found = [sdk.compute.get_server(name)]
    found = found or [s for s in _servers(sdk, name) if s.name == name]
    own = [s for s in found if s.project_id == sdk.current_project_id]
    if not found:
        raise Problem(f"There is no server called {name}.", "See: openstack server list")
    if len(own or found) > 1:
        raise Problem(
            f"{len(own or found)} servers are called {name}.",
            "Say the id of the one that you mean.",
            detail="\n".join(f"{s.id}  {s.status}{_where(sdk, s)}" for s in own or found),
        )
    return (own or found)[0]


def _servers(sdk: Any, name: str) -> list[Any]:
    """Servers of all projects, or of the user's own where others are not for him, about that name.

    Nova takes the filter for a regular expression: what could mean something stands for any
    character. MariaDB holds none above U+FFFF.
    """
    from openstack.exceptions import ForbiddenException

    if not name or len(name) > LONGEST_NAME or max(name) > "\uffff":
        return []
    pattern = "^" + re.sub(r"[^0-9A-Za-z_ -]", ".", name)[: LONGEST_NAME - 1]
    try:
        return list(sdk.compute.servers(name=pattern, all_projects=True))
    except ForbiddenException:
        return list(sdk.compute.servers(name=pattern))


def _where(sdk: Any, server: Any) -> str:
    """Of which project a server is, where that is another; its name if the user may know that."""
    from openstack.exceptions import SDKException

    if server.project_id == sdk.current_project_id:
        return ""
    with suppress(SDKException):
        return f"  project {sdk.identity.get_project(server.project_id).name}"
    return f"  project {server.project_id}"


def trust(sdk: Any) -> ssl.SSLContext:
    """What the client's settings say about certificates."""
    verify, _ = sdk.config.get_requests_verify_args()
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def open_socket(url: str, context: ssl.SSLContext) -> Any:
    """A WebSocket to a console through the gateway, as a context manager."""
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    return connect(
        url, ssl=context, subprotocols=[Subprotocol("binary")], compression=None, max_size=None
    )


def environment(inherited: Mapping[str, str], clouds_yaml: Path) -> dict[str, str]:
    """Environment of the OpenStack client; what another cloud's openrc set must not leak in."""
    kept = {
        key: value
        for key, value in inherited.items()
        if not key.startswith("OS_") or key.endswith("_API_VERSION")
    }
    return kept | {
        "OS_CLIENT_CONFIG_FILE": str(clouds_yaml),
        "OS_CLOUD": CLOUD_NAME,
        "PYTHONWARNINGS": "ignore",
    }


def exports(clouds_yaml: Path, prefix: Path, *, for_others: bool = False) -> list[str]:
    """Lines for a shell. prefix: of the Python environment.

    for_others: the shell is not root's and cannot read clouds.yaml, so all of it is in the lines.
    """
    values = {"OS_CLIENT_CONFIG_FILE": str(clouds_yaml), "OS_CLOUD": CLOUD_NAME}
    if for_others:
        options = json.loads(clouds_yaml.read_text())["clouds"][CLOUD_NAME]
        values = {f"OS_{key.upper()}": str(value) for key, value in options["auth"].items()} | {
            "OS_REGION_NAME": options["region_name"],
            "OS_INTERFACE": options["interface"],
            "OS_IDENTITY_API_VERSION": str(options["identity_api_version"]),
            "OS_CACERT": options["cacert"],
        }
    lines = [f"export {key}={quote(value)}" for key, value in values.items()]
    return [*lines, f'export PATH={quote(str(prefix / "bin"))}:"$PATH"']


ON = 1
"""Nova's power state (nova/compute/power_state.py)."""


def need_on(server: Any) -> None:
    """Problem unless the server is on: nobody can log in to one that is not."""
    if server.status == "ACTIVE" or server.power_state == ON:
        return
    name = quote(server.name)
    raise Problem(
        f"The server {server.name} is {server.status}: nobody can log in to it.",
        f"Start it: openstack server start {name}"
        if server.status == "SHUTOFF"
        else f"See: dozen server explain {name}",
    )


def floating_ip(sdk: Any, server: Any) -> str:
    """The server's floating IP; Problem if it has none."""
    for port in sdk.network.ports(device_id=server.id):
        for ip in sdk.network.ips(port_id=port.id):
            return str(ip.floating_ip_address)
    raise Problem(
        f"The server {server.name} has no floating IP.",
        "Give it one: openstack floating ip create public; "
        f"openstack server add floating ip {server.id} ADDRESS",
    )
