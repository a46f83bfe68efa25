"""One long life for a server of each kind: every operation that Nova's libvirt driver knows.

The lives go on side by side; each test waits for its part of one of them. Nothing cheaper has Nova,
Neutron and libvirt change a server that somebody is logged in to, and start it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from openstack.exceptions import ConflictException
from testcloud import BOOT_SECONDS, Guest, Tenant, TestCloud, eventually, pings
from tinyimages import Made, arm64_kernel, arm64_uefi, armhf_kernel, armhf_uefi

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KINDS: Mapping[str, Callable[[Made], Path]] = {
    "AArch64 by UEFI": arm64_uefi,
    "ARMv7 by kernel": armhf_kernel,
    "AArch64 by kernel": arm64_kernel,
    "ARMv7 by UEFI": armhf_uefi,
}
CARRIED = (
    *("hw_architecture", "hw_machine_type", "hw_firmware_type", "hw_cdrom_bus", "hw_video_model"),
    *("kernel_id", "ramdisk_id", "os_command_line", "trait:COMPUTE_ARCH_AARCH64"),
    "trait:CUSTOM_COMPUTE_ARCH_ARMV7L",
)
"""Properties of an image that one made from its server must have, too."""
FLAVOR, LARGER = "m1.micro", "m1.small"
"""In 256 MiB, firmware sometimes has no room for the initrd of tiny's UEFI disk."""
NOTE = "/root/note"
"""A file on the server's own disk."""


@dataclass
class Life:
    """A server of one kind, and what it is compared with after an operation."""

    cloud: TestCloud
    tenant: Tenant
    image: Any
    other: Any
    """Another image for the same architecture."""
    guest: Guest
    boot: str = ""
    """The kernel's name for this boot."""

    @property
    def server(self) -> Any:
        return self.compute.get_server(self.guest.id)

    @property
    def compute(self) -> Any:
        return self.tenant.sdk.compute

    def until(self, *status: str) -> None:
        """Nova is done, and says that status."""

        def there() -> bool:
            now = self.server
            assert now.status != "ERROR", (now.fault or {}).get("message")
            return now.status in status and now.task_state is None

        eventually(there, seconds=BOOT_SECONDS, what=f"{self.guest.name} {status}")

    def boots(self) -> str:
        """Waits for a boot that we have not seen; its name."""
        before = self.boot

        def new() -> str:
            if not self.guest.answers():
                return ""
            found = self.guest.ask("cat /proc/sys/kernel/random/boot_id", "root").stdout.strip()
            return found if found != before else ""

        self.boot = eventually(new, seconds=BOOT_SECONDS, what=f"a new boot of {self.guest.name}")
        return self.boot

    def goes_on(self) -> None:
        """It answers, and was not started anew."""
        self.guest.wait()
        assert self.inside("cat /proc/sys/kernel/random/boot_id") == self.boot

    def inside(self, words: str) -> str:
        return self.guest.run(words, "root")

    def has_console(self) -> None:
        """Its serial line can be opened, for which it must have a port."""
        assert self.compute.create_console(self.guest.id, "serial")["url"]

    def kept(self) -> None:
        """Its disk is still the same."""
        assert self.inside(f"cat {NOTE}") == self.guest.id


def boot(life: Life) -> None:
    """By what inspection said of the image, and by nothing else."""
    life.until("ACTIVE")
    life.boots()
    assert life.inside("uname -m") == life.image.properties["hw_architecture"]
    life.inside(f"echo {life.guest.id} >{NOTE}; sync")


def config_drive(life: Life) -> None:
    drive = "mkdir -p /tmp/d; mount -o ro $(findfs LABEL=config-2) /tmp/d"
    facts = life.inside(f"{drive}; cat /tmp/d/openstack/latest/meta_data.json; umount /tmp/d")
    assert life.guest.id in facts


def pause(life: Life) -> None:
    life.compute.pause_server(life.guest.id)
    life.until("PAUSED")
    assert not pings(life.guest.floating)
    life.compute.unpause_server(life.guest.id)
    life.until("ACTIVE")
    life.goes_on()


def suspend(life: Life) -> None:
    life.compute.suspend_server(life.guest.id)
    life.until("SUSPENDED")
    life.compute.resume_server(life.guest.id)
    life.until("ACTIVE")
    life.goes_on()


def stop(life: Life) -> None:
    life.compute.stop_server(life.guest.id)
    life.until("SHUTOFF")
    life.compute.start_server(life.guest.id)
    life.until("ACTIVE")
    life.boots()
    life.kept()


def soft_reboot(life: Life) -> None:
    life.compute.reboot_server(life.guest.id, "SOFT")
    life.boots()
    life.until("ACTIVE")
    life.kept()


def hard_reboot(life: Life) -> None:
    life.compute.reboot_server(life.guest.id, "HARD")
    life.until("ACTIVE")
    life.boots()
    life.kept()


def interfaces(life: Life) -> int:
    return len(life.inside("ls /sys/class/net").split())


def attach(life: Life) -> list[Any]:
    """Two: one free PCI slot is not enough."""
    network = life.cloud.sdk.network.find_network("private")
    return [life.compute.create_server_interface(life.guest.id, net_id=network.id) for _ in "ab"]


def attach_stopped(life: Life) -> None:
    """While it is stopped, for kernels without PCI Express hot-plug; they stay."""
    before = interfaces(life)
    life.compute.stop_server(life.guest.id)
    life.until("SHUTOFF")
    attach(life)
    life.compute.start_server(life.guest.id)
    life.until("ACTIVE")
    life.boots()
    assert interfaces(life) == before + 2


def attach_interfaces(life: Life) -> None:
    """While it runs."""
    before = interfaces(life)
    made = attach(life)
    eventually(lambda: interfaces(life) == before + 2, seconds=30, what="two more interfaces")
    for each in made:
        life.compute.delete_server_interface(each.port_id, server=life.guest.id)
    eventually(lambda: interfaces(life) == before, seconds=30, what="the interfaces gone")

    def known() -> bool:
        """Nova itself knows so, which is a little later."""
        addresses = [each for net in life.server.addresses.values() for each in net]
        fixed = [each for each in addresses if each["OS-EXT-IPS:type"] == "fixed"]
        return len(fixed) == before - 1

    eventually(known, seconds=30, what="Nova knows of one interface")


def lock(life: Life) -> None:
    life.compute.lock_server(life.guest.id)
    tenant = life.server
    assert tenant.is_locked
    life.compute.unlock_server(life.guest.id)
    life.goes_on()


def set_password(life: Life) -> None:
    """Refused, since there is no agent in the guest; the server does not suffer."""
    with pytest.raises(ConflictException, match="guest agent"):
        life.compute.change_server_password(life.guest.id, "another")
    life.until("ACTIVE")
    life.goes_on()


def snapshot(life: Life) -> None:
    """The image has all that it needs to start, and what starts from it has the disk's content."""
    image = life.tenant.sdk.image
    made = life.compute.create_server_image(life.guest.id, f"{life.guest.name}-snapshot").id
    life.tenant.later(lambda: image.delete_image(made, ignore_missing=True))
    life.until("ACTIVE")
    eventually(lambda: image.get_image(made).status == "active", seconds=60, what="the snapshot")
    life.goes_on()
    was, now = (image.get(f"/images/{i}").json() for i in (life.image.id, made))
    for name in CARRIED:
        assert (now.get(name) or None) == was.get(name), name
    copied = image.get_image(made)
    copy = start(life.cloud, life.tenant, f"{life.guest.name}-copy", copied, life.other)
    try:
        boot_only(copy)
        assert copy.inside(f"cat {NOTE}") == life.guest.id
    finally:
        delete(copy)


def boot_only(life: Life) -> None:
    life.until("ACTIVE")
    life.boots()


def unrescued(life: Life) -> None:
    life.compute.unrescue_server(life.guest.id)
    life.until("ACTIVE")
    life.boots()
    life.kept()


def on_second_disk(life: Life) -> str:
    """The note, from the disk beside the one that was started."""
    mount = "mkdir -p /tmp/disk; for d in /dev/vdb2 /dev/vdb; do mount $d /tmp/disk && break; done"
    return life.inside(f"{mount}; cat /tmp/disk{NOTE}; umount /tmp/disk")


def by_uefi(life: Life) -> bool:
    return not life.guest.ask("[ -d /sys/firmware/efi ]", "root").returncode


def rescue(life: Life) -> None:
    """From the server's own image. One that starts by UEFI lost its loader before."""
    uefi = by_uefi(life)
    if uefi:
        life.inside("dd if=/dev/zero of=/dev/vda1 bs=1M count=1; sync")
    life.compute.rescue_server(life.guest.id)
    life.until("RESCUE")
    life.boots()
    life.has_console()
    assert by_uefi(life) == uefi
    assert on_second_disk(life) == life.guest.id
    if uefi:
        life.inside("dd if=/dev/vda1 of=/dev/vdb1 bs=1M count=1; sync")
    unrescued(life)


def rescue_other(life: Life) -> None:
    """From an image that starts another way."""
    uefi = by_uefi(life)
    life.compute.rescue_server(life.guest.id, image=life.other.id)
    life.until("RESCUE")
    life.boots()
    life.has_console()
    assert by_uefi(life) != uefi
    assert on_second_disk(life) == life.guest.id
    unrescued(life)


def memory(life: Life) -> int:
    """What the kernel has, in MiB."""
    return int(life.inside("awk '/MemTotal/ { print $2 }' /proc/meminfo")) // 1024


def variables(life: Life) -> list[int]:
    """Which file holds its firmware's variables, if it has any."""
    files = (life.cloud.cloud.lib / "libvirt").rglob(f"{life.server.instance_name}_VARS.fd")
    return [each.stat().st_ino for each in files]


def resize(life: Life, flavor: str) -> None:
    before, firmware = memory(life), variables(life)
    assert bool(firmware) == by_uefi(life)
    life.compute.resize_server(life.guest.id, life.compute.find_flavor(flavor).id)
    life.until("VERIFY_RESIZE")
    life.boots()
    life.kept()
    life.has_console()
    assert memory(life) > 1.5 * before
    assert variables(life) == firmware


def resize_reverted(life: Life) -> None:
    before = memory(life)
    resize(life, LARGER)
    life.compute.revert_server_resize(life.guest.id)
    life.until("ACTIVE")
    life.boots()
    life.kept()
    life.has_console()
    assert memory(life) == before


def resize_confirmed(life: Life) -> None:
    resize(life, LARGER)
    life.compute.confirm_server_resize(life.guest.id)
    life.until("ACTIVE")
    life.goes_on()


def rebuild(life: Life) -> None:
    """Its disk is new; name, addresses and ports are not."""
    life.compute.rebuild_server(life.guest.id, life.image.id)
    life.until("ACTIVE")
    life.boots()
    assert life.guest.ask(f"[ -e {NOTE} ]", "root").returncode == 1
    life.inside(f"echo {life.guest.id} >{NOTE}; sync")


def rebuild_other(life: Life) -> None:
    """With an image that starts another way."""
    uefi = by_uefi(life)
    life.compute.rebuild_server(life.guest.id, life.other.id)
    life.until("ACTIVE")
    life.boots()
    assert by_uefi(life) != uefi


def shelve(life: Life) -> None:
    """Its disk becomes an image, it leaves the node, and comes back."""
    life.compute.shelve_server(life.guest.id)
    life.until("SHELVED_OFFLOADED")
    life.compute.unshelve_server(life.guest.id)
    life.until("ACTIVE")
    life.boots()
    life.kept()


def delete(life: Life) -> None:
    """Nothing of it stays with libvirt."""
    name = life.cloud.sdk.compute.get_server(life.guest.id).instance_name
    life.compute.delete_server(life.guest.id)
    life.compute.wait_for_delete(life.server, interval=0.3, wait=60)
    rest = (life.cloud.cloud.lib / "libvirt").rglob(f"*{name}*")
    assert list(rest) == []


OPERATIONS: Mapping[str, Callable[[Life], None]] = {
    "boot": boot,
    "config drive": config_drive,
    "pause": pause,
    "suspend": suspend,
    "stop and start": stop,
    "soft reboot": soft_reboot,
    "hard reboot": hard_reboot,
    "attach interfaces": attach_interfaces,
    "lock": lock,
    "set password": set_password,
    "snapshot": snapshot,
    "rescue": rescue,
    "rescue with another image": rescue_other,
    "resize, confirmed": resize_confirmed,
    "resize, reverted": resize_reverted,
    "rebuild": rebuild,
    "rebuild with another image": rebuild_other,
    "shelve": shelve,
    "delete": delete,
}


def start(cloud: TestCloud, tenant: Tenant, name: str, image: Any, other: Any) -> Life:
    """A new server with a floating IP; does not wait until it is active."""
    net = cloud.sdk.network
    group = next(net.security_groups(name="ssh", project_id=tenant.project))
    network = net.find_network("private")
    server = tenant.create(
        name, network, group, image_id=image.id, flavor=FLAVOR, config_drive=True
    )
    return Life(cloud, tenant, image, other, tenant.guest(server))


PARTS: Mapping[str, tuple[str, ...]] = {
    "AArch64 by UEFI": (
        *("boot", "config drive", "pause", "suspend", "stop and start", "soft reboot", "lock"),
        *("set password", "attach interfaces", "snapshot", "rescue", "resize, confirmed"),
        *("rebuild", "rebuild with another image", "delete"),
    ),
    "ARMv7 by kernel": (
        *("boot", "config drive", "pause", "suspend", "lock", "set password", "soft reboot"),
        *("hard reboot", "snapshot", "rescue", "resize, reverted", "shelve", "rebuild"),
        *("attach interfaces", "rebuild with another image", "delete"),
    ),
    "AArch64 by kernel": (
        *("boot", "soft reboot", "rescue with another image", "shelve", "resize, confirmed"),
        *("rebuild with another image", "delete"),
    ),
    "ARMv7 by UEFI": ("boot", "suspend", "stop and start", "rescue", "rebuild", "delete"),
}
LONG = {
    "AArch64 by UEFI": (
        *("hard reboot", "rescue with another image", "shelve", "resize, reverted"),
    ),
    "ARMv7 by kernel": ("stop and start", "rescue with another image", "resize, confirmed"),
    "AArch64 by kernel": (
        *("config drive", "pause", "suspend", "lock", "set password", "stop and start"),
        *("hard reboot", "attach interfaces", "snapshot", "rescue", "resize, reverted", "rebuild"),
    ),
    "ARMv7 by UEFI": (
        *("config drive", "pause", "lock", "set password", "soft reboot", "hard reboot"),
        *("attach interfaces", "snapshot", "rescue with another image", "resize, reverted"),
        *("resize, confirmed", "shelve", "rebuild with another image"),
    ),
}
"""Besides, before a resize or the rebuild, in a long run: most wait for an emulated boot."""
OTHER = {
    "AArch64 by UEFI": "AArch64 by kernel",
    "AArch64 by kernel": "AArch64 by UEFI",
    "ARMv7 by kernel": "ARMv7 by UEFI",
    "ARMv7 by UEFI": "ARMv7 by kernel",
}


def operation(kind: str, name: str) -> Callable[[Life], None]:
    """Debian's 32-bit kernel knows no PCI Express hot-plug."""
    stopped = name == "attach interfaces" and kind.startswith("ARMv7")
    return attach_stopped if stopped else OPERATIONS[name]


def parts(kind: str, long: bool) -> list[str]:
    """What a life of this kind goes through."""
    names = PARTS[kind]
    at = names.index("resize, confirmed" if "resize, confirmed" in names else "rebuild")
    return [*names[:at], *(LONG[kind] if long else ()), *names[at:]]


def cell(kind: str, name: str, *marks: pytest.MarkDecorator) -> Any:
    return pytest.param(kind, name, marks=(pytest.mark.shows(name, kind), *marks))


CELLS = [
    *(cell(kind, name) for kind, names in PARTS.items() for name in names),
    *(cell(kind, name, pytest.mark.long) for kind, names in LONG.items() for name in names),
]


@pytest.fixture(scope="module")
def lives(
    cloud: TestCloud, made: Made, long: bool
) -> Iterator[Mapping[tuple[str, str], Future[None]]]:
    """Part of a life -> its end. All lives begin here."""
    before = {image.id for image in cloud.sdk.image.images()}
    images = {kind: imported(cloud, kind, make(made)) for kind, make in KINDS.items()}
    ends: dict[tuple[str, str], Future[None]] = {
        (kind, name): Future() for kind in PARTS for name in parts(kind, long)
    }
    clouds = {kind: TestCloud(cloud.root) for kind in PARTS}
    tenants = {kind: each.admin() for kind, each in clouds.items()}

    def live(kind: str) -> None:
        waiting = parts(kind, long)
        try:
            name = kind.lower().replace(" ", "-")
            life = start(clouds[kind], tenants[kind], name, images[kind], images[OTHER[kind]])
            while waiting:
                operation(kind, waiting[0])(life)
                ends[kind, waiting.pop(0)].set_result(None)
        except BaseException as error:
            for name in waiting:
                ends[kind, name].set_exception(error)

    with ThreadPoolExecutor(len(PARTS)) as pool:
        for kind in PARTS:
            pool.submit(live, kind)
        yield ends
    for tenant in tenants.values():
        tenant.clear()
    for image in list(cloud.sdk.image.images()):
        if image.id not in before:
            cloud.sdk.image.delete_image(image)


def imported(cloud: TestCloud, kind: str, path: Path) -> Any:
    name = f"life {kind}"
    words = ("image", "import", str(path), "--name", name)
    assert cloud.dozen(*words).stdout.startswith(f"Imported: {name} (")
    assert cloud.dozen(*words).stdout.startswith("Already")
    return cloud.sdk.image.find_image(name)


@pytest.mark.parametrize(("kind", "part"), CELLS)
def test_life(
    lives: Mapping[tuple[str, str], Future[None]], long: bool, kind: str, part: str
) -> None:
    lives[kind, part].result(timeout=1200 if long else 600)


def test_a_rescue_right_after_the_start_waits_for_the_start_alone(
    cloud: TestCloud, admin: Tenant
) -> None:
    """Who has just started does not hear the power button. Nova would wait for a minute."""
    compute, net = cloud.sdk.compute, cloud.sdk.network
    server = admin.create("rescued-early", net.find_network("private"))
    compute.wait_for_server(server, interval=0.1, wait=BOOT_SECONDS)
    compute.rescue_server(server)
    compute.wait_for_server(server, status="RESCUE", interval=0.3, wait=120)
    (rescue,) = [a for a in compute.server_actions(server) if a.action == "rescue"]
    (event,) = compute.get_server_action(rescue.request_id, server).events
    began, ended = (datetime.fromisoformat(event[at]) for at in ("start_time", "finish_time"))
    assert ended - began < timedelta(seconds=50)
