"""Nova, which says at once that no server of a project may be in the network of the floating IPs.

Upstream asks its policy (network:attach_external_network) on the node that has taken the server
(nova/network/neutron.py, allocate_for_instance): the user gets a server, and that ends in ERROR.
"""

from __future__ import annotations

from typing import Any


def use() -> None:
    """Ask when a server is asked for, too."""
    from nova.network import neutron
    from nova.objects.network_request import NetworkRequestList

    from nova import exception

    upstream = neutron.API.validate_networks

    def validate_networks(
        self: Any, context: Any, requested_networks: Any, num_instances: int
    ) -> Any:
        if requested_networks and isinstance(requested_networks[0], tuple):
            requested_networks = NetworkRequestList.from_tuples(requested_networks)
        # It fills in the networks of ports.
        answer = upstream(self, context, requested_networks, num_instances)
        wanted = {each.network_id for each in requested_networks or ()}
        asked = [each for each in wanted if each not in (None, "auto", "none")]
        nets = self._get_available_networks(context, context.project_id, asked) if asked else []
        try:
            self._check_external_network_attach(context, nets)
        except exception.ExternalNetworkAttachForbidden as error:
            names = ", ".join(
                net["name"] for net in nets if net.get("router:external") and not net.get("shared")
            )
            raise exception.ExternalNetworkAttachForbidden(
                f"Servers are not in the network {names} themselves: it is for floating IPs. "
                "Create the server in a network of your project, or without naming any, then: "
                "openstack server add floating ip SERVER ADDRESS"
            ) from error
        return answer

    neutron.API.validate_networks = validate_networks
