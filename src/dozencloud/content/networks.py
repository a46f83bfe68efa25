"""Networks of a new cloud: `public` (floating IPs), `private` (servers), a router between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.settings import PROJECT_PREFIX
from dozencloud.services import accounts

EXTERNAL, PRIVATE, ROUTER, SECURITY_GROUP = "public", "private", "router", "ssh"
DEFAULT_GROUP, POOL = "default", "projects"
GROUP_RULES: tuple[Mapping[str, Any], ...] = (
    {"ether_type": "IPv4", "protocol": "icmp"},
    {"ether_type": "IPv6", "protocol": "ipv6-icmp"},
    *(
        {"ether_type": kind, "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
        for kind in ("IPv4", "IPv6")
    ),
)
"""Ping and SSH, from anywhere."""


def there(sdk: Any) -> bool:
    """What a server, a floating IP and a project's first network are made with."""
    network = sdk.network
    whole = external(sdk) and own(sdk, network.networks, PRIVATE)
    pools = network.subnet_pools(is_default=True, ip_version=4)
    outside = network.networks(is_router_external=True)
    return bool(whole) and any(pools) and any(each.is_default for each in outside)


def make(sdk: Any, cloud: Cloud) -> None:
    """`public` (floating IPs), `private` (servers), a router between them; rules, addresses."""
    network = sdk.network
    _default_groups(network)
    _pool(sdk, cloud)
    first, last = cloud.floating_range
    # Not the administrator's: Nova would take it for a network that his servers may be in.
    owner = sdk.identity.find_project(accounts.PROJECT).id
    outer = external(sdk) or network.create_network(
        name=EXTERNAL,
        project_id=owner,
        is_router_external=True,
        provider_network_type="flat",
        provider_physical_network="public",
    )
    if not any(each.is_default for each in network.networks(is_router_external=True)):
        network.update_network(outer, is_default=True)
    if not any(network.subnets(network_id=outer.id)):
        network.create_subnet(
            name=EXTERNAL,
            project_id=owner,
            network_id=outer.id,
            ip_version=4,
            cidr=str(cloud.provider),
            gateway_ip=cloud.provider_gateway,
            is_dhcp_enabled=False,
            allocation_pools=[{"start": first, "end": last}],
        )
    private = own(sdk, network.networks, PRIVATE) or network.create_network(name=PRIVATE)
    inner = own(sdk, network.subnets, PRIVATE) or network.create_subnet(
        name=PRIVATE,
        network_id=private.id,
        ip_version=4,
        cidr=str(cloud.tenant),
        dns_nameservers=list(cloud.settings.network.dns),
    )
    router = own(sdk, network.routers, ROUTER) or network.create_router(
        name=ROUTER, external_gateway_info={"network_id": outer.id}
    )
    ports = network.ports(device_id=router.id)
    if not any(ip["subnet_id"] == inner.id for port in ports for ip in port.fixed_ips):
        network.add_interface_to_router(router, subnet_id=inner.id)
    for name in (DEFAULT_GROUP, SECURITY_GROUP):
        _security_group(sdk, name)


def own(sdk: Any, find: Callable[..., Iterable[Any]], name: str) -> Any:
    """What the administrator's project has of that name; others may have called theirs so."""
    return next(iter(find(name=name, project_id=sdk.current_project_id)), None)


def external(sdk: Any) -> Any:
    """The network of the floating IPs; nobody but an administrator makes such."""
    return next(iter(sdk.network.networks(name=EXTERNAL, is_router_external=True)), None)


def _pool(sdk: Any, cloud: Cloud) -> None:
    """Where projects' own networks come from that Neutron makes with a first server.

    Without IPv6: the network of the floating IPs has none to lead to.
    """
    network, wanted = sdk.network, str(cloud.projects)
    pool = own(sdk, network.subnet_pools, POOL)
    if pool is None:
        others = network.subnet_pools(is_default=True, ip_version=4)
        network.create_subnet_pool(
            name=POOL,
            prefixes=[wanted],
            default_prefix_length=PROJECT_PREFIX,
            is_shared=True,
            is_default=not any(others),
        )
    elif wanted not in pool.prefixes:
        network.update_subnet_pool(pool, prefixes=[*pool.prefixes, wanted])


def _default_groups(network: Any) -> None:
    """Every project's `default` group, from now on: ping and SSH from anywhere."""
    there = list(network.default_security_group_rules(direction="ingress"))
    for rule in GROUP_RULES:
        if not any(_is_rule(each, rule) and each.used_in_default_sg for each in there):
            network.create_default_security_group_rule(
                direction="ingress",
                used_in_default_sg=True,
                used_in_non_default_sg=False,
                **rule,
            )


def _security_group(sdk: Any, name: str) -> None:
    """The group of that name in the administrator's project, with the same rules."""
    network = sdk.network
    group = own(sdk, network.security_groups, name) or network.create_security_group(
        name=name, description="Ping and SSH from anywhere."
    )
    there = list(network.security_group_rules(security_group_id=group.id, direction="ingress"))
    for rule in GROUP_RULES:
        if not any(_is_rule(each, rule) for each in there):
            network.create_security_group_rule(
                security_group_id=group.id, direction="ingress", **rule
            )


def _is_rule(rule: Any, wanted: Mapping[str, Any]) -> bool:
    """It lets that in, from anywhere."""
    anywhere = not (rule.remote_ip_prefix or rule.remote_group_id or rule.remote_address_group_id)
    return anywhere and all(getattr(rule, name) == value for name, value in wanted.items())
