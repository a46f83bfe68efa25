"""Neutron's OVN agent with a metadata proxy of ours.

What is wrong with upstream's between haproxy and Nova: hooks/metadata.py. Its haproxy adds headers
beside those that a server wrote (neutron/agent/metadata/driver_base.py and
neutron/agent/ovn/metadata/driver.py), and runs as the agent's user: root. Ours is a user of its
own, who has no group but its own, sees one folder with one socket, and can start nothing.

The agent finds its extension by the name "metadata", by which events are told to it, too
(neutron/agent/ovn/extensions/metadata.py), so ours takes the place of upstream's.
"""

from __future__ import annotations

import grp
import threading
from pathlib import Path
from typing import Any

from neutron.agent.metadata import driver_base
from neutron.agent.ovn.extensions import metadata as upstream
from neutron.agent.ovn.extensions.metadata import MetadataExtension
from neutron.agent.ovn.metadata import driver
from neutron.cmd.agents import ovn_neutron_agent
from neutron.common import utils as common_utils
from neutron.common.ovn import utils as ovn_utils
from oslo_config import cfg

from dozencloud.hooks.metadata import (
    BODY,
    NO_LENGTH,
    PER_NETWORK,
    TOO_LONG,
    Address,
    Answer,
    Doors,
    MetadataRequest,
    ask,
    owner,
)
from dozencloud.private import write_private

OPTIONS = (
    cfg.StrOpt("nova_metadata", help="Unix socket of Nova's metadata service."),
    cfg.StrOpt("networks", help="Folder with a folder for each network."),
)
PER_SERVER = 16
"""Connections to haproxy that one server may have."""


class HaproxyConfigurator(driver_base.HaproxyConfiguratorBase):  # type: ignore[misc]
    """haproxy of one network: to the one socket in its folder, and nowhere else."""

    PROXY_CONFIG_DIR = "ovn-metadata-proxy"
    HEADER_CONFIG_TEMPLATE = ""

    def _create_config(self) -> None:
        self._resource_id = self.network_id
        also = (
            f"    bind [{self.host_v6}]:{self.port} interface {self.bind_interface}\n"
            if self.host_v6 and self.bind_interface
            else ""
        )
        self._haproxy_cfg = f"""\
global
    user {self.user}
    group {self.group}
    chroot {Path(cfg.CONF.dozencloud.networks) / self.network_id}
    pidfile {self.pidfile}
    daemon
    nbthread 1
    maxconn 512

defaults
    mode http
    option http-server-close
    # The agent waits for no server: it gets requests that are complete.
    option http-buffer-request
    option disable-h2-upgrade
    retries 3
    timeout http-request 10s
    timeout http-keep-alive 10s
    timeout client 30s
    timeout connect 5s
    timeout queue 30s
    timeout server 60s

backend servers
    stick-table type ipv6 size 10k expire 1m store conn_cur

listen metadata
    bind {self.host}:{self.port}
{also}\
    tcp-request connection track-sc0 src table servers
    tcp-request connection reject if {{ sc0_conn_cur gt {PER_SERVER} }}
    http-request return status 411 content-type text/plain string "{NO_LENGTH}\\n" if \
{{ req.hdr_cnt(transfer-encoding) gt 0 }}
    http-request return status 413 content-type text/plain string "{TOO_LONG}\\n" if \
{{ req.body_size gt {BODY} }}
    # The agent believes no header. These are what it, upstream's or Nova would believe.
    http-request del-header ^[xX][-_] -m reg
    http-request del-header ^[fF]orwarded$ -m reg
    server agent unix@/{Doors.NAME} send-proxy-v2 maxconn {PER_NETWORK}
"""

    def create_config_file(self) -> None:
        folder = Path(self.get_config_path(self.state_path))
        folder.mkdir(mode=0o700, exist_ok=True)
        self.cfg_path = str(folder / f"{self.network_id}.conf")
        write_private(Path(self.cfg_path), self.haproxy_cfg)


class Metadata(MetadataExtension):  # type: ignore[misc]
    """Upstream's extension; requests come in by our doors."""

    doors: Doors

    @staticmethod
    def _register_config_options() -> None:
        MetadataExtension._register_config_options()
        cfg.CONF.register_opts(OPTIONS, "dozencloud")

    def initialize(self, *args: Any) -> None:
        super().initialize(*args)
        group = grp.getgrnam(cfg.CONF.metadata_proxy_group).gr_gid
        self.doors = Doors(Path(cfg.CONF.dozencloud.networks), group, self.answer)

    def start(self) -> None:
        self._load_config()
        self.sync(provision=False)
        self._update_chassis_private_config()
        threading.Thread(target=self.doors.run, daemon=True).start()
        self._is_started = True

    def provision_datapath(self, port_binding: Any) -> None:
        self.doors.open(ovn_utils.get_network_name_from_datapath(port_binding.datapath))
        super().provision_datapath(port_binding)

    def teardown_datapath(self, net_name: str) -> None:
        super().teardown_datapath(net_name)
        self.doors.close(net_name)

    def answer(self, network: str, address: Address, asked: MetadataRequest) -> Answer:
        server, project = owner(self.sb_idl, network, address)
        who = {
            "X-Forwarded-For": str(address),
            "X-Instance-ID": server,
            "X-Instance-ID-Signature": common_utils.sign_instance_id(self.conf, server),
            "X-Tenant-ID": project,
        }
        return ask(Path(cfg.CONF.dozencloud.nova_metadata), asked, who)


def main() -> None:
    upstream.MetadataExtension, driver.HaproxyConfigurator = Metadata, HaproxyConfigurator
    ovn_neutron_agent.main()
