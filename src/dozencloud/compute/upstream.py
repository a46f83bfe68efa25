"""Every private name of the pinned Nova that the driver relies on, and what it is to us.

A test holds each against the installed release.
"""

from __future__ import annotations

from collections.abc import Mapping

OVERRIDDEN: Mapping[str, tuple[str, ...]] = {
    "nova.virt.libvirt.driver:LibvirtDriver.check_can_live_migrate_source": (
        "self",
        "context",
        "instance",
        "dest_check_data",
        "block_device_info",
    ),
    "nova.virt.libvirt.driver:LibvirtDriver.get_available_resource": ("self", "nodename"),
    "nova.virt.libvirt.driver:LibvirtDriver.update_provider_tree": (
        "self",
        "provider_tree",
        "nodename",
        "allocations",
    ),
    "nova.virt.libvirt.driver:LibvirtDriver._get_guest_config": (
        "self",
        "instance",
        "network_info",
        "image_meta",
        "disk_info",
        "rescue",
        "block_device_info",
        "context",
        "mdevs",
        "accel_info",
        "share_info",
        "old_guest",
    ),
    "nova.virt.libvirt.driver:LibvirtDriver.init_host": ("self", "host"),
    "nova.virt.libvirt.driver:LibvirtDriver._create_guest": (
        "self",
        "context",
        "xml",
        "instance",
        "power_on",
        "pause",
        "post_xml_callback",
    ),
    "nova.virt.libvirt.driver:LibvirtDriver.get_info": ("self", "instance", "use_cache"),
    "nova.virt.libvirt.driver:LibvirtDriver.get_mks_console": ("self", "context", "instance"),
    "nova.virt.libvirt.driver:LibvirtDriver._guest_needs_pcie": ("self", "guest"),
    "nova.virt.libvirt.driver:LibvirtDriver._handle_conn_event": (
        "self",
        "enabled",
        "reason",
    ),
    "nova.virt.libvirt.driver:LibvirtDriver._get_guest_storage_config": (
        "self",
        "context",
        "instance",
        "image_meta",
        "disk_info",
        "rescue",
        "block_device_info",
        "flavor",
        "os_type",
    ),
}
"""module:Class.method -> names of its parameters."""

USED: tuple[str, ...] = (
    "nova.console.type:ConsoleMKS",
    "nova.exception:ConsoleTypeUnavailable",
    "nova.exception:BuildAbortException",
    "nova.exception:HypervisorUnavailable",
    "nova.scheduler.host_manager:HostManager.get_host_states_by_uuids",
    "nova.scheduler.manager:SchedulerManager.select_destinations",
    "nova.scheduler.utils:ResourceRequest.get_request_group",
    "nova.scheduler.utils:ResourceRequest.merged_resources",
    "nova.scheduler.utils:request_is_rebuild",
    "nova.scheduler.utils:resources_from_request_spec",
    "nova.scheduler.weights:BaseHostWeigher",
    "nova.objects.instance:Instance.delete_metadata_key",
    "nova.virt.hardware:InstanceInfo",
    "nova.virt.hardware:parse_cpu_spec",
    "nova.compute.provider_tree:ProviderTree.add_traits",
    "nova.compute.provider_tree:ProviderTree.data",
    "nova.compute.provider_tree:ProviderTree.remove_traits",
    "nova.compute.provider_tree:ProviderTree.update_inventory",
    "nova.virt.libvirt.driver:LibvirtDriver._get_pcpu_available",
    "nova.virt.libvirt.driver:LibvirtDriver._get_vcpu_available",
    "nova.virt.libvirt.driver:LibvirtDriver._check_emulation_arch",
    "nova.virt.libvirt.driver:LibvirtDriver._cpu_config_to_vcpu_model",
    "nova.virt.libvirt.guest:Guest.get_xml_desc",
    "nova.virt.libvirt.host:Host.get_connection",
    "nova.virt.libvirt.host:Host.get_guest",
    "nova.virt.libvirt.host:Host.list_guests",
    "nova.virt.libvirt.host:Host.has_min_version",
    "nova.virt.libvirt.config:LibvirtConfigGuestController",
    "nova.virt.libvirt.config:LibvirtConfigGuestDisk",
    "nova.virt.libvirt.config:LibvirtConfigGuestCPUFeature",
    "nova.virt.libvirt.config:LibvirtConfigGuestFeature",
    "nova.virt.libvirt.config:LibvirtConfigGuestFeatureACPI",
    "nova.virt.libvirt.config:LibvirtConfigGuestFeatureAPIC",
    "nova.virt.libvirt.config:LibvirtConfigGuestFeaturePMU",
    "nova.virt.libvirt.config:LibvirtConfigGuestFeatureTCG",
)
"""Called on upstream's objects."""
