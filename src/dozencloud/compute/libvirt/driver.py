"""The libvirt driver for hosts that run ARM servers."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import nova.conf
from nova.compute import power_state
from nova.console.type import ConsoleMKS
from nova.exception import (
    ConsoleTypeUnavailable,
    HypervisorUnavailable,
    MigrationPreCheckError,
)
from nova.image import glance
from nova.virt.hardware import InstanceInfo
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt.utils import copy_image, get_instance_path
from oslo_config import cfg

from dozencloud.compute import basefiles, bootfiles, clusters, fetching, looked, published
from dozencloud.compute.abilities import Abilities, abilities
from dozencloud.compute.debugging import gdbrequest, session
from dozencloud.compute.hang import watchdog
from dozencloud.compute.libvirt import (
    bootcheck,
    consoles,
    equal,
    fulldisk,
    plugging,
    rescuing,
    serialports,
)
from dozencloud.compute.libvirt import guest as guests
from dozencloud.compute.refusal import refusing
from dozencloud.errors import Problem
from dozencloud.facts import firmware
from dozencloud.hooks.nova import faults, references

RECONNECTS = 60

CONF = nova.conf.CONF
CONF.register_opts(
    [
        cfg.ListOpt(
            "firmware_armv7",
            default=[],
            help="UEFI for ARMv7 servers, each as CODE:VARIABLES; the first that is there is "
            "taken.",
        )
    ],
    "dozencloud",
)


def reconnect(host: Any) -> None:
    """Open the connection to libvirtd again as soon as it is back, once a second."""
    for _ in range(RECONNECTS):
        time.sleep(1)
        try:
            host.get_connection()
        except HypervisorUnavailable:
            continue
        return


class ArmLibvirtDriver(libvirt_driver.LibvirtDriver):  # type: ignore[misc]  # nova is untyped
    """Upstream's driver; what it overrides is listed in dozencloud.compute.upstream."""

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        serialports.use()
        references.use()
        faults.use()
        fetching.use()
        self.vif_driver = plugging.VIFDriver(self._host)
        self._watchdog = watchdog.Watchdog(
            self._host.get_connection, watchdog.record, watchdog.CONF.dozencloud.hang_seconds
        )

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        # Nova asks once a minute.
        fulldisk.go_on(self._host.get_connection())
        basefiles.forget(Path(CONF.instances_path), self._cache)
        resources: dict[str, Any] = super().get_available_resource(nodename)
        found, claimed = abilities(self._host), resources["supported_instances"]
        resources["supported_instances"] = published.instances(found, claimed)
        resources["cpu_info"] = published.cpu_info(found, resources["cpu_info"])
        return resources

    @property
    def _cache(self) -> Path:
        return Path(self.image_cache_manager.cache_dir)

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None
    ) -> None:
        super().update_provider_tree(provider_tree, nodename, allocations=allocations)
        found = abilities(self._host)
        usable = {"VCPU": self._get_vcpu_available(), "PCPU": self._get_pcpu_available()}
        said = provider_tree.data(nodename).inventory
        provider_tree.update_inventory(nodename, published.inventory(found, said, usable))
        traits = published.traits(found)
        provider_tree.add_traits(nodename, *(name for name, has in traits.items() if has))
        provider_tree.remove_traits(nodename, *(name for name, has in traits.items() if not has))

    def check_can_live_migrate_destination(
        self,
        context: Any,
        instance: Any,
        src_compute_info: Any,
        dst_compute_info: Any,
        block_migration: Any = False,
        disk_over_commit: Any = False,
    ) -> Any:
        architecture = self._check_emulation_arch(instance.image_meta)
        try:
            equal.check(architecture, src_compute_info, dst_compute_info)
        except Problem as problem:
            raise MigrationPreCheckError(reason=f"{problem.what} {problem.mend}") from problem
        return super().check_can_live_migrate_destination(
            context,
            instance,
            src_compute_info,
            dst_compute_info,
            block_migration,
            disk_over_commit,
        )

    def check_can_live_migrate_source(
        self, context: Any, instance: Any, dest_check_data: Any, block_device_info: Any = None
    ) -> Any:
        if self._debugging.stops(instance.uuid):
            reason = "gdb has stopped the server. Let it go on, or: dozen debug --close"
            raise MigrationPreCheckError(reason=reason)
        data = super().check_can_live_migrate_source(
            context, instance, dest_check_data, block_device_info
        )
        cpus = clusters.named_cpus(self._host.get_guest(instance).get_xml_desc())
        if clusters.matter(abilities(self._host)) and cpus:
            # Upstream would let the server run on all CPUs of its new, equal host.
            data.dst_cpu_shared_set_info = set(cpus)
        return data

    def pre_live_migration(
        self,
        context: Any,
        instance: Any,
        block_device_info: Any,
        network_info: Any,
        disk_info: Any,
        migrate_data: Any,
    ) -> Any:
        """Fetch the config drive, too: libvirt leaves out disks that are not written to."""
        data = super().pre_live_migration(
            context, instance, block_device_info, network_info, disk_info, migrate_data
        )
        drive = Path(get_instance_path(instance)) / "disk.config"
        if instance.config_drive and migrate_data.block_migration:
            copy_image(src=str(drive), dest=str(drive), host=instance.host, receive=True)
        return data

    def _get_guest_config(
        self, instance: Any, network_info: Any, image_meta: Any, *args: Any, **kwargs: Any
    ) -> Any:
        found = abilities(self._host)
        with refusing(instance.uuid):
            self._look(instance, image_meta, found, *args, **kwargs)
            architecture = self._check_emulation_arch(image_meta)
            guests.refuse_foreign(architecture, found)
            guests.refuse_unfit(architecture, image_meta.properties)
            made = super()._get_guest_config(instance, network_info, image_meta, *args, **kwargs)
            guests.mend(made, self._guest_host(found))
            looked.large_sectors(made.devices, bootfiles.sector)
            instance.vcpu_model = self._cpu_config_to_vcpu_model(made.cpu, instance.vcpu_model)
            if clusters.matter(found):
                others = [each for each in self._host.list_guests() if each.uuid != instance.uuid]
                clusters.settle(
                    made,
                    found,
                    frozenset(self._get_vcpu_available()),
                    [each.get_xml_desc() for each in others],
                )
        return made

    def _look(
        self,
        instance: Any,
        image_meta: Any,
        found: Abilities,
        disk_info: Any = None,
        rescue: Any = None,
        *_: Any,
        **__: Any,
    ) -> None:
        """Complete the properties of a server whose image has none."""
        folder, suffix = Path(get_instance_path(instance)), ".rescue" if rescue else ""
        kernel = bool(instance.kernel_id)
        said = {name: image_meta.properties.get(name) for name in looked.KNOWN}
        if any(said[name] for name in looked.ARCHITECTURES):
            return
        inspection = (
            bootfiles.of_kernel(folder / f"kernel{suffix}")
            if kernel
            else bootfiles.of_disk(folder / f"disk{suffix}")
        )
        lacking = looked.missing(said, inspection, found.machine, kernel=kernel)
        if lacking:
            guests.refuse_foreign(lacking["hw_architecture"], found)
        for name, value in lacking.items():
            setattr(image_meta.properties, name, value)
            if not rescue:
                instance.system_metadata[f"image_{name}"] = value

    def _guest_host(self, found: Abilities) -> guests.Host:
        return guests.Host(
            abilities=found,
            accepts_loader_secure=self._host.has_min_version(guests.LOADER_SECURE_ACCEPTED),
            firmware_armv7=firmware.first_present(firmware.parse(CONF.dozencloud.firmware_armv7)),
            tb_cache=CONF.libvirt.tb_cache_size or 0,
        )

    def _guest_needs_pcie(self, guest: Any) -> bool:
        ports = bool(CONF.libvirt.num_pcie_ports) and guests.has_hotplug_ports(guest)
        return ports or bool(super()._guest_needs_pcie(guest))

    def init_host(self, host: str) -> None:
        super().init_host(host)
        basefiles.forget_parts(self._cache)
        self._debugging = session.Debugging(
            Path(CONF.state_path) / "debug",
            CONF.serial_console.proxyclient_address,
            lambda server: self._host.get_connection().lookupByUUIDString(server),
        )

    def spawn(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        try:
            super().spawn(context, instance, *args, **kwargs)
        except Exception:
            images = (instance.image_ref, instance.kernel_id, instance.ramdisk_id)
            basefiles.doubt(self._cache, filter(None, images))
            raise

    def _create_image(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> Any:
        with fetching.at_most(instance.get_flavor().root_gb):
            return super()._create_image(context, instance, *args, **kwargs)

    def _create_guest(
        self,
        context: Any,
        xml: str,
        instance: Any,
        power_on: bool = True,
        pause: bool = False,
        post_xml_callback: Any = None,
    ) -> Any:
        if power_on or pause:
            with refusing(instance.uuid):
                bootcheck.check(xml, bootcheck.image_properties(instance.system_metadata))
        asked = gdbrequest.request(instance.metadata) if power_on else None
        hold = bool(asked and asked.at_start)
        guest = super()._create_guest(
            context, xml, instance, power_on, pause or hold, post_xml_callback
        )
        if not hold:
            if power_on or pause:
                self._watch(instance)
            return guest
        self._debugging.started(instance)
        return session.Held(guest)

    def get_info(self, instance: Any, use_cache: bool = True) -> Any:
        info = super().get_info(instance, use_cache)
        # Nova waits for a server to run after each start, and knows no debugger. And one that was
        # paused when its host stopped would not be started again with it.
        if info.state == power_state.PAUSED and (
            self._debugging.stops(instance.uuid)
            or fulldisk.waits(self._host.get_connection(), instance.uuid)
        ):
            return InstanceInfo(state=power_state.RUNNING, internal_id=info.internal_id)
        return info

    def check_instance_shared_storage_local(self, context: Any, instance: Any) -> Any:
        """Not shared with another node: each has its servers' disks to itself.

        Upstream writes a file and asks the other node over RPC whether it sees it. Nodes may not
        call each other; without an answer upstream takes the disks for shared, and a node that
        comes back after an evacuation would keep its copies for ever. With itself a node shares
        all disks: on that the way back from a resize depends.
        """
        if instance.host != CONF.host:
            raise NotImplementedError
        return super().check_instance_shared_storage_local(context, instance)

    def get_instance_diagnostics(self, instance: Any) -> Any:
        diagnostics = super().get_instance_diagnostics(instance)
        # Upstream tells the host's setting; a server of another architecture is emulated beside it.
        diagnostics.hypervisor = self._host.get_guest(instance).get_config().virt_type
        return diagnostics

    def get_mks_console(self, context: Any, instance: Any) -> Any:
        held = self._debugging.console(instance)
        if held is None:
            raise ConsoleTypeUnavailable(console_type="webmks")
        address = CONF.serial_console.proxyclient_address
        return consoles.reachable(ConsoleMKS(address, held.port, f"/{held.secret}"))

    def _configure_guest_by_virt_type(
        self, guest: Any, instance: Any, image_meta: Any, flavor: Any, old_guest: Any = None
    ) -> None:
        old_guest = rescuing.firmware_to_keep(old_guest, has_kernel=bool(instance.kernel_id))
        super()._configure_guest_by_virt_type(guest, instance, image_meta, flavor, old_guest)

    def _conf_non_lxc(
        self,
        guest: Any,
        root_device_name: Any,
        rescue: Any,
        instance: Any,
        inst_path: str,
        image_meta: Any,
        disk_info: Any,
    ) -> None:
        super()._conf_non_lxc(
            guest, root_device_name, rescue, instance, inst_path, image_meta, disk_info
        )
        if rescue:
            rescuing.keep_command_line(guest, instance)

    def rescue(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        image_meta: Any,
        rescue_password: Any,
        block_device_info: Any,
        share_info: Any,
    ) -> None:
        if image_meta.obj_attr_is_set("id") and image_meta.id != instance.image_ref:
            found = glance.API().get(context, image_meta.id)
            instance = rescuing.as_image(instance, found["properties"])
        super().rescue(
            context,
            instance,
            network_info,
            image_meta,
            rescue_password,
            block_device_info,
            share_info,
        )

    def unrescue(self, context: Any, instance: Any) -> None:
        if instance.kernel_id:
            # It has no firmware's variables of its own: those of the rescue go with its domain.
            self._destroy(instance)
            self._undefine_domain(instance)
        saved = Path(get_instance_path(instance)) / "unrescue.xml"
        saved.write_text(rescuing.on_free_ports(saved.read_text(), serialports.acquire))
        super().unrescue(context, instance)

    def _serial_ports_already_defined(self, instance: Any) -> bool:
        """No: upstream means a migration, and leaves a rescued or resized server no console."""
        return False

    def _soft_reboot(self, instance: Any) -> bool:
        done: bool = super()._soft_reboot(instance)
        if done:
            self._watch(instance)
        return done

    def _watch(self, instance: Any) -> None:
        self._watchdog.watch(instance, Path(self._get_console_log_path(instance)))

    def resume(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> None:
        super().resume(context, instance, *args, **kwargs)
        # It goes on where it was, which may well be silent work.
        self._watchdog.forget(instance.uuid)

    def _add_video_driver(self, guest: Any, image_meta: Any, flavor: Any) -> Any:
        if consoles.can_show(guest, image_meta.properties.get("hw_video_model")):
            return super()._add_video_driver(guest, image_meta, flavor)
        consoles.drop_screen(guest)
        return None

    def _guest_add_pointer_device(self, guest: Any, image_meta: Any) -> Any:
        if consoles.has_screen(guest):
            return super()._guest_add_pointer_device(guest, image_meta)
        return None

    def _guest_add_keyboard_device(self, guest: Any, image_meta: Any) -> Any:
        if consoles.has_screen(guest):
            super()._guest_add_keyboard_device(guest, image_meta)
            consoles.add_keyboard(guest)
        return None

    def _guest_add_usb_root_controller(self, guest: Any, flavor: Any, image_meta: Any) -> None:
        super()._guest_add_usb_root_controller(guest, flavor, image_meta)
        consoles.choose_usb_controller(guest)

    def get_serial_console(self, context: Any, instance: Any) -> Any:
        consoles.check_running(self._host.get_guest(instance).is_active())
        console = super().get_serial_console(context, instance)
        consoles.check_free(int(console.port))
        return consoles.reachable(console)

    def get_vnc_console(self, context: Any, instance: Any) -> Any:
        consoles.check_running(self._host.get_guest(instance).is_active())
        try:
            return consoles.reachable(super().get_vnc_console(context, instance))
        except ConsoleTypeUnavailable:
            raise consoles.no_screen() from None

    def _handle_conn_event(self, enabled: bool, reason: str | None) -> None:
        super()._handle_conn_event(enabled, reason)
        if not enabled:
            # Upstream waits for the next call, up to a minute, and takes no server until then.
            threading.Thread(target=reconnect, args=(self._host,), daemon=True).start()
