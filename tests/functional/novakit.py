"""nova-compute's libvirt driver without a cloud: our own on a libvirtd of its own, no database.

with NovaKit(folder) as kit:
    server = kit.server(image, flavor)
    print(kit.xml(server))
    kit.start(server)
    kit.wait(server, "login:")
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nova import monkey_patch

monkey_patch.patch(backend="threading")  # as nova-compute does, before all else of Nova

import nova.conf  # noqa: E402
import os_vif  # noqa: E402
from nova.network import model as network  # noqa: E402
from nova.objects.base import NovaObject  # noqa: E402
from nova.virt.libvirt import blockinfo  # noqa: E402

from dozencloud.compute import abilities  # noqa: E402
from dozencloud.compute.libvirt import driver  # noqa: E402
from dozencloud.facts.kvm import kvm  # noqa: E402
from dozencloud.host.distributions import registry  # noqa: E402
from dozencloud.services.libvirt import ENTER  # noqa: E402
from nova import config, context, exception, objects, privsep  # noqa: E402
from nova.virt import virtapi  # noqa: E402

CONF = nova.conf.CONF


@dataclass
class Disks:
    """What a server starts from; None where it has none. disk: qcow2, or one made empty."""

    disk: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None


@dataclass
class Server:
    """One server: Nova's object, and where its files are."""

    instance: Any
    folder: Path
    network_info: Any = field(default_factory=network.NetworkInfo)

    @property
    def console(self) -> str:
        """All that it wrote to its serial port."""
        path = self.folder / "console.log"
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        return text.replace("\r", "")


class Conductor:
    """Answers in the conductor's place: nothing else is in the database, and all is saved."""

    @staticmethod
    def object_class_action_versions(
        _context: Any, name: str, method: str, _versions: Any, _args: Any, _keywords: Any
    ) -> Any:
        if name.endswith("List"):
            return {} if method.startswith("bdms_by") else getattr(objects, name)(objects=[])
        if name == "Service":
            return objects.Service(host="kit", disabled=False, disabled_reason=None)
        raise exception.NotFound(f"{name}.{method}")

    @staticmethod
    def object_action(
        _context: Any, _instance: Any, _method: str, _args: Any, _keywords: Any
    ) -> tuple[dict[str, Any], None]:
        return {}, None


class Manager(virtapi.VirtAPI):  # type: ignore[misc]  # nova is untyped
    """In nova-compute's place: no event of Neutron comes, none is waited for."""

    @contextmanager
    def wait_for_instance_event(self, *_args: Any, **_keywords: Any) -> Iterator[None]:
        yield


class NovaKit:
    """The driver on its own libvirtd. folder: must be one that QEMU's user may enter."""

    def __init__(self, folder: Path | None = None, *, virt_type: str = "") -> None:
        self._own = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="novakit-", dir="/var/tmp"))
        self.folder.chmod(0o711)
        found = kvm()
        self.virt_type = virt_type or ("kvm" if found.usable else "qemu")
        self._hide_kvm = self.virt_type != "kvm"
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._servers: list[Server] = []
        self.context = context.RequestContext("user", "project", is_admin=True)

    # ---- libvirtd -------------------------------------------------------------------------

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt-sock"

    def start_libvirt(self, host: str = "", *, instances: Path | None = None) -> None:
        """libvirtd and virtlogd alone.

        host: UUID of the machine that this one seems to be; instances: where its servers' folders
        seem to be.
        """
        theirs = {
            "etc": "/etc/libvirt",
            "run": "/run/libvirt",
            "lib": "/var/lib/libvirt",
            "cache": "/var/cache/libvirt",
            "log": "/var/log/libvirt",
        }
        binds = []
        for name, there in theirs.items():
            (self.folder / name).mkdir(exist_ok=True)
            binds += [str(self.folder / name), there]
        if instances is not None:
            (self.folder / "instances").mkdir(mode=0o711)
            binds += [str(self.folder / "instances"), str(instances)]
        (self.folder / "etc/no-kvm").touch()
        own = f'host_uuid = "{host}"\n' if host else ""
        (self.folder / "etc/libvirtd.conf").write_text(f'auth_unix_rw = "none"\n{own}')
        (self.folder / "etc/virtlogd.conf").write_text("max_size = 16777216\n")
        (self.folder / "etc/qemu.conf").write_text(
            'namespaces = []\nstdio_handler = "logd"\nremember_owner = 0\n'
            'security_driver = "none"\nsecurity_default_confined = 0\n'
        )
        hide = self._hide_kvm and Path("/dev/kvm").exists()
        environment = {
            **os.environ,
            "NODE": os.uname().nodename,
            "NO_KVM": str(self.folder / "etc/no-kvm") if hide else "",
        }
        enter = [
            "unshare",
            "--mount",
            "--uts",
            "--propagation",
            "private",
            "sh",
            str(ENTER),
            *binds,
            "--",
        ]
        for name, socket in (("virtlogd", "virtlogd-sock"), ("libvirtd", "libvirt-sock")):
            log = (self.folder / f"{name}.log").open("wb")
            pid = self.folder / f"{name}.pid"
            self._daemons.append(
                subprocess.Popen(
                    [*enter, name, "--pid-file", str(pid)],
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
            )
            self.until((self.folder / "run" / socket).exists, name, 30)

    def stop_libvirt(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(timeout=20)

    @staticmethod
    def until(true: Any, what: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                raise AssertionError(f"no {what} within {seconds} s")
            time.sleep(0.05)

    # ---- Nova -----------------------------------------------------------------------------

    def _start_nova(self) -> None:
        config.parse_args(["kit"], default_config_files=[], configure_db=False, init_rpc=False)
        nova.conf.neutron.register_dynamic_opts(CONF)
        instances = self.folder / "instances"
        instances.mkdir(mode=0o711, exist_ok=True)
        self.override(None, instances_path=str(instances), state_path=str(self.folder))
        self.override("oslo_concurrency", lock_path=str(self.folder / "lock"))
        self.override("vnc", enabled=False)
        pairs = registry.here().paths.firmware_armv7
        self.override("dozencloud", firmware_armv7=[f"{c}:{v}" for c, v in pairs])
        self.override(
            "libvirt",
            connection_uri=self.uri,
            virt_type=self.virt_type,
            cpu_mode="host-passthrough" if self.virt_type == "kvm" else "none",
            tb_cache_size=256,
            num_pcie_ports=14,
            images_type="qcow2",
            inject_partition=-2,
        )
        objects.register_all()
        NovaObject.indirection_api = Conductor()
        os_vif.initialize()
        privsep.sys_admin_pctxt.set_client_mode(False)
        abilities.abilities.cache_clear()
        self.driver = driver.ArmLibvirtDriver(Manager())
        self.driver.init_host("kit")

    def _stop_nova(self) -> None:
        """Upstream leaves threads behind that would keep this process."""
        host = self.driver._host
        host._conn_event_handler = None
        host._conn_event_handler_queue.put(sys.exit)
        self.driver.cleanup_host("kit")

    @staticmethod
    def override(group: str | None, **options: object) -> None:
        """Set options of Nova's configuration until the kit ends."""
        for name, value in options.items():
            CONF.set_override(name, value, group)

    def __enter__(self) -> Self:
        try:
            self.start_libvirt()
            self._start_nova()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for server in self._servers:
            self.destroy(server)
        if hasattr(self, "driver"):
            self._stop_nova()
        NovaObject.indirection_api = None
        self.stop_libvirt()
        CONF.reset()
        CONF.clear()
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)

    # ---- servers --------------------------------------------------------------------------

    def server(
        self,
        properties: Mapping[str, object],
        disks: Disks | None = None,
        *,
        vcpus: int = 1,
        memory: int = 256,
        extra_specs: Mapping[str, str] | None = None,
        nics: int = 0,
    ) -> Server:
        """A server that is not started. properties: the image's, as Glance has them.

        nics: only for looking at the XML; nothing plugs them in.
        """
        disks = disks or Disks()
        name = str(uuid.uuid4())
        image = {
            "id": str(uuid.uuid4()),
            "disk_format": "qcow2",
            "container_format": "bare",
            "properties": dict(properties),
        }
        instance = objects.Instance(
            context=self.context,
            id=len(self._servers) + 1,
            uuid=name,
            user_id="user",
            project_id="project",
            display_name=f"server-{len(self._servers) + 1}",
            host="kit",
            node="kit",
            flavor=self.flavor(vcpus, memory, extra_specs),
            old_flavor=None,
            new_flavor=None,
            image_ref=image["id"],
            kernel_id="kernel" if disks.kernel else "",
            ramdisk_id="ramdisk" if disks.initrd else "",
            vcpus=vcpus,
            memory_mb=memory,
            root_gb=1,
            ephemeral_gb=0,
            root_device_name=None,
            ephemeral_key_uuid=None,
            os_type="linux",
            vm_mode=None,
            vm_state="active",
            task_state=None,
            migration_context=None,
            progress=0,
            config_drive="",
            key_data=None,
            metadata={},
            numa_topology=None,
            pci_requests=objects.InstancePCIRequests(requests=[]),
            pci_devices=objects.PciDeviceList(objects=[]),
            resources=None,
            trusted_certs=None,
            vcpu_model=None,
            device_metadata=None,
            cleaned=False,
            system_metadata={
                **{f"image_{key}": str(value) for key, value in properties.items()},
                "image_disk_format": "qcow2",
                "image_container_format": "bare",
                "image_base_image_ref": image["id"],
            },
        )
        instance.obj_reset_changes()
        made = Server(instance, self.folder / "instances" / name)
        made.network_info = network.NetworkInfo(self._nic(each) for each in range(nics))
        instance.info_cache = objects.InstanceInfoCache(network_info=made.network_info)
        made.folder.mkdir(mode=0o711)
        self._put(made, disks)
        self._servers.append(made)
        return made

    @staticmethod
    def flavor(vcpus: int, memory: int, extra_specs: Mapping[str, str] | None = None) -> Any:
        return objects.Flavor(
            id=1,
            flavorid="1",
            name="kit",
            vcpus=vcpus,
            memory_mb=memory,
            root_gb=1,
            ephemeral_gb=0,
            swap=0,
            vcpu_weight=0,
            rxtx_factor=1.0,
            disabled=False,
            is_public=True,
            extra_specs=dict(extra_specs or {}),
        )

    @staticmethod
    def _nic(number: int) -> Any:
        return network.VIF(
            id=str(uuid.uuid4()),
            address=f"fa:16:3e:00:00:{number:02x}",
            type=network.VIF_TYPE_OVS,
            vnic_type=network.VNIC_TYPE_NORMAL,
            devname=f"tap{number}",
            ovs_interfaceid=str(uuid.uuid4()),
            details={"port_filter": True, "ovs_hybrid_plug": False},
            active=True,
            network=network.Network(
                id=str(uuid.uuid4()), bridge="br-int", label="private", subnets=[], meta={}
            ),
        )

    @staticmethod
    def _put(server: Server, disks: Disks) -> None:
        disk = server.folder / "disk"
        if disks.disk is not None:
            shutil.copyfile(disks.disk, disk)
        else:
            make = ["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M"]
            subprocess.run(make, check=True)
        for source, name in ((disks.kernel, "kernel"), (disks.initrd, "ramdisk")):
            if source is not None:
                shutil.copyfile(source, server.folder / name)

    def xml(self, server: Server) -> str:
        """The domain as the driver describes it."""
        instance = server.instance
        meta = instance.image_meta
        disks = blockinfo.get_disk_info(self.virt_type, instance, meta, {})
        made: str = self.driver._get_guest_xml(
            self.context, instance, server.network_info, disks, meta, block_device_info={}
        )
        return made

    def start(self, server: Server) -> Any:
        """Define and start it; Nova's Guest."""
        self.driver._ensure_console_log_for_instance(server.instance)
        return self.driver._create_guest_with_network(
            self.context,
            self.xml(server),
            server.instance,
            server.network_info,
            {},
            vifs_already_plugged=True,
        )

    def dumpxml(self, server: Server) -> str:
        """The domain as libvirt knows it."""
        name = server.instance.name
        virsh = ["virsh", f"--connect={self.uri}", "dumpxml", name]
        return subprocess.run(virsh, check=True, capture_output=True, text=True).stdout

    def wait(self, server: Server, pattern: str, seconds: float = 60) -> None:
        """Until the console shows the pattern."""
        try:
            self.until(lambda: re.search(pattern, server.console), pattern, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; console:\n{server.console[-3000:]}") from None

    def destroy(self, server: Server) -> None:
        """Stop it and remove the domain with its variables."""
        self.driver.destroy(self.context, server.instance, server.network_info)
