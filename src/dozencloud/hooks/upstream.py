"""Every private name of the pinned releases that the hooks replace or call, and how it looks.

A test holds each against what is installed. compute/upstream.py and supervision/upstream.py
have what else is relied on.
"""

from __future__ import annotations

from collections.abc import Mapping

REPLACED: Mapping[str, tuple[str, ...]] = {
    "nova.api.openstack.compute.server_external_events:ServerExternalEventsController."
    "_get_instances_all_cells": ("self", "context", "instance_uuids", "instance_mappings"),
    "nova.image.glance:get_remote_image_service": ("context", "image_href"),
    "neutron.agent.metadata.driver_base:HaproxyConfiguratorBase._create_config": ("self",),
    "neutron.agent.metadata.driver_base:HaproxyConfiguratorBase.create_config_file": ("self",),
    "neutron.agent.ovn.extensions.metadata:MetadataExtension._register_config_options": (),
    "neutron.agent.ovn.extensions.metadata:MetadataExtension.initialize": ("self", "args"),
    "neutron.agent.ovn.extensions.metadata:MetadataExtension.provision_datapath": (
        "self",
        "port_binding",
    ),
    "neutron.agent.ovn.extensions.metadata:MetadataExtension.start": ("self",),
    "neutron.agent.ovn.extensions.metadata:MetadataExtension.teardown_datapath": (
        "self",
        "net_name",
    ),
    "neutron.agent.ovn.metadata.driver:HaproxyConfigurator": (
        *("network_id", "router_id", "unix_socket_path", "host", "port", "user", "group"),
        *("state_path", "pid_file", "rate_limiting_config", "haproxy_config", "host_v6"),
        "bind_interface",
    ),
    "neutron.services.auto_allocate.db:AutoAllocatedTopologyMixin.get_auto_allocated_topology": (
        *("self", "context", "project_id", "fields"),
    ),
    "keystone.api._shared.authentication:authenticate_for_token": ("auth",),
    "keystone.common.password_hashing:check_password": ("password", "hashed"),
    "keystone.identity.backends.sql:Identity._record_failed_auth": ("self", "user_id"),
    "glance.api.v2.image_data:ImageDataController.upload": (
        *("self", "req", "image_id", "data", "size"),
    ),
    "glance.api.v2.image_data:ImageDataController.stage": (
        *("self", "req", "image_id", "data", "size"),
    ),
    "glance.async_.flows._internal_plugins.web_download:get_flow": ("kwargs",),
    "glance.common.scripts.utils:open_external_uri": ("uri_or_request",),
    "glance.common.utils:get_validated_address": ("uri",),
    "glance.location:ImageProxy.set_data": ("self", "data", "size", "backend", "set_active"),
    "oslo_limit.limit:Enforcer._get_enforcement_model": ("self",),
    "nova.compute.api:API._check_quota_unshelve_offloaded": (
        *("context", "instance", "request_spec"),
    ),
    "nova.compute.api:API._populate_instance_names": (
        *("self", "instance", "num_instances", "index"),
    ),
    "nova.compute.utils:exception_to_dict": ("fault", "message"),
    "nova.conductor.manager:ComputeTaskManager._set_vm_state_and_notify": (
        *("self", "context", "instance_uuid", "method", "updates", "ex", "request_spec"),
    ),
    "nova.conductor.manager:ComputeTaskManager.build_instances": (
        *("self", "context", "instances", "image", "filter_properties", "admin_password"),
        *("injected_files", "requested_networks", "security_groups", "block_device_mapping"),
        *("legacy_bdm", "request_spec", "host_lists"),
    ),
    # As its decorators show it: (self, context, instance, scheduler_hint, ...).
    "nova.conductor.manager:ComputeTaskManager.migrate_server": ("args", "kwargs"),
    "nova.network.neutron:API.validate_networks": (
        *("self", "context", "requested_networks", "num_instances"),
    ),
    "nova.utils:sanitize_hostname": ("hostname", "default_name"),
    "nova.virt.images:do_image_deep_inspection": ("img", "image_href", "path"),
    "nova.virt.libvirt.utils:fetch_image": ("context", "target", "image_id", "trusted_certs"),
    "nova.virt.libvirt.utils:fetch_raw_image": ("context", "target", "image_id", "trusted_certs"),
}
"""module:name -> names of its parameters."""

USED: tuple[str, ...] = (
    "oslo_limit.limit:_EnforcerUtils._get_project_limit",
    "oslo_limit.limit:_EnforcerUtils._get_registered_limit",
    "nova.api.openstack.compute.schemas:servers",
    "nova.api.validation.parameter_types:fqdn",
    "nova.api.validation.validators:_FORMAT_CHECKER.checks",
    "nova.exception:ImageUnacceptable",
    "nova.exception:InvalidName",
    "nova.exception:NoValidHost",
    "neutron.agent.metadata.driver_base:HaproxyConfiguratorBase.get_config_path",
    "neutron.agent.ovn.extensions.metadata:MetadataExtension._load_config",
    "neutron.agent.ovn.extensions.metadata:MetadataExtension._update_chassis_private_config",
    "neutron.agent.ovn.extensions.metadata:MetadataExtension.sync",
    "neutron.common.ovn.constants:OVN_DEVID_EXT_ID_KEY",
    "neutron.common.ovn.constants:OVN_PROJID_EXT_ID_KEY",
    "neutron.common.ovn.utils:get_network_name_from_datapath",
    "neutron.common.ovn.utils:is_lsp_router_port",
    "neutron.common.utils:sign_instance_id",
    "neutron.objects.network:ExternalNetwork.objects_exist",
    "neutron.objects.network:Network.get_objects",
    "neutron.objects.router:Router.objects_exist",
    "neutron.policy:init",
    # What hooks/neutronapi.py says first, and better.
    "neutron.plugins.ml2.drivers.ovn.mech_driver.mech_driver:"
    "OVNMechanismDriver._is_ovn_router_flavor_port",
    "neutron.services.auto_allocate.db:AutoAllocatedTopologyMixin._validate",
    "neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb.impl_idl_ovn:"
    "OvsdbSbOvnIdl.get_network_port_bindings_by_ip",
    "keystone.common.password_hashers.bcrypt:Bcrypt.verify",
    "keystone.common.password_hashing:hash_password",
    "keystone.exception:PasswordVerificationError",
    "glance.async_.flows._internal_plugins.base_download:BaseDownload.revert",
    "glance.async_.flows._internal_plugins.web_download:_WebDownload.execute",
    "glance.async_.flows._internal_plugins.web_download:lf.Flow",
    "glance.common.exception:ImportTaskError",
    "glance.common.exception:InvalidImageData",
    "glance.common.exception:StorageQuotaFull",
    "glance.common.scripts.utils:SafeRedirectHandler",
    "glance.common.scripts.utils:_ValidatedExternalHTTPHandler",
    "glance.common.scripts.utils:_ValidatedExternalHTTPSHandler",
    "glance.db.sqlalchemy.api:user_get_staging_usage",
    "glance.db.sqlalchemy.api:user_get_storage_usage",
    "nova.objects.network_request:NetworkRequestList.from_tuples",
    "nova.network.neutron:API._check_external_network_attach",
    "nova.network.neutron:API._get_available_networks",
    "nova.virt.images:IMAGE_API",
    "nova.virt.libvirt.imagecache:ImageCacheManager.cache_dir",
    "oslo_limit.limit:Enforcer.get_project_limits",
)
"""Called, read or subclassed."""
