"""libvirtd and virtlogd of this cloud, in mount namespaces of their own.

libvirt's system mode has its folders compiled in. Ours are mounted over them in a private mount
namespace, so that this libvirtd and one of the machine never see each other's domains.
"""

from __future__ import annotations

from pathlib import Path

from dozencloud.cloud import tls
from dozencloud.cloud.installation import LIBVIRT_PORT, MIGRATION_PORTS, Cloud
from dozencloud.cloud.plan import Plan, Role
from dozencloud.cloud.settings import SCREEN_PORTS
from dozencloud.host import users
from dozencloud.host.confinement import Unconfined
from dozencloud.host.distributions.needs import Need
from dozencloud.supervision.ready import accepting
from dozencloud.supervision.service import Definition, File, Folder, Service
from dozencloud.tasks.graph import Step

USER = "dozen-qemu"
"""QEMU runs as this user."""

OWN_FOLDERS = Unconfined("mounts folders in a namespace of its own; starts QEMU as another user")

ENTER = Path(__file__).parent / "own-libvirt.sh"


def folders(cloud: Cloud) -> dict[str, str]:
    """Our folder -> the one that libvirt has compiled in."""
    return {
        str(cloud.etc / "libvirt"): "/etc/libvirt",
        str(cloud.run / "libvirt"): "/run/libvirt",
        str(cloud.lib / "libvirt"): "/var/lib/libvirt",
        str(cloud.lib / "libvirt.cache"): "/var/cache/libvirt",
        str(cloud.log / "libvirt"): "/var/log/libvirt",
    }


def peers(cloud: Cloud) -> Path:
    """On a node that trusts others: by what libvirt, as client or server, knows them."""
    return cloud.etc / "peers"


def streams(cloud: Cloud) -> Path:
    """The same for QEMU, which reads it as its own user."""
    return peers(cloud) / "streams"


def _listening(plan: Plan) -> str:
    """libvirtd.conf: whether the libvirtd of other nodes may connect, with their certificates."""
    given = plan.trusting
    if given is None:
        return "listen_tls = 0\nlisten_tcp = 0\n"
    own = tls.folder(plan.cloud) / "node"
    return (
        f'listen_tls = 1\nlisten_tcp = 0\nlisten_addr = "{given.address}"\n'
        f'tls_port = "{LIBVIRT_PORT}"\nauth_tls = "none"\ntls_priority = "{tls.PRIORITY}"\n'
        f'cert_file = "{own}.crt"\nkey_file = "{own}.key"\n'
        f'ca_file = "{peers(plan.cloud)}/cacert.pem"\n'
    )


def _moving(plan: Plan) -> str:
    """qemu.conf: what a server that moves is sent by; memory and disks, by TLS on both sides."""
    given = plan.trusting
    if given is None:
        return ""
    first, last = MIGRATION_PORTS
    return (
        f'migration_address = "{given.address}"\n'
        f"migration_port_min = {first}\nmigration_port_max = {last}\n"
        f'migrate_tls_x509_cert_dir = "{streams(plan.cloud)}"\n'
        "migrate_tls_x509_verify = 1\nmigrate_tls_force = 1\n"
    )


def _command(plan: Plan, *words: str) -> list[str]:
    binds = [word for pair in folders(plan.cloud).items() for word in pair]
    return [
        *("unshare", "--mount", "--uts", "--propagation", "private"),
        *("sh", str(ENTER), *binds, "--", *words),
    ]


def _environment(plan: Plan) -> dict[str, str]:
    """What own-libvirt.sh reads.

    NO_KVM: an unusable /dev/kvm makes libvirt probe QEMU again at every call (seconds each).
    Covered by a read-only plain file, access(2) with W_OK fails and libvirt leaves it alone.
    """
    hide = plan.node.kvm_present and plan.node.virt_type != "kvm"
    return {
        "NODE": plan.node.name,
        "NO_KVM": str(plan.cloud.etc / "libvirt" / "no-kvm") if hide else "",
    }


def _common(plan: Plan) -> tuple[tuple[Folder, ...], tuple[File, ...]]:
    cloud = plan.cloud
    etc = cloud.etc / "libvirt"
    return (
        Folder(etc),
        # QEMU passes through to what libvirt makes for it.
        Folder(cloud.run / "libvirt", group=USER, mode=0o710),
        Folder(cloud.lib / "libvirt", group=USER, mode=0o710),
        Folder(cloud.lib / "libvirt.cache", group=USER, mode=0o710),
        Folder(cloud.log / "libvirt", mode=0o700),
    ), (
        File(etc / "no-kvm", ""),
        File(
            etc / "libvirtd.conf",
            # Boards often have no UUID of their own, or all the same.
            f'host_uuid = "{plan.node.chassis}"\n'
            'auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\nunix_sock_ro_perms = "0700"\n'
            'log_outputs = "3:stderr"\n' + _listening(plan),
        ),
        File(
            etc / "virtlogd.conf",
            # Console logs: at most 2 x 2 MiB each.
            "max_size = 2097152\nmax_backups = 1\n",
        ),
        File(
            etc / "qemu.conf",
            # No per-domain mount namespace: it would need a /dev of its own made for every
            # server, and libvirtd has a private one already.
            'namespaces = []\nstdio_handler = "logd"\nremember_owner = 0\n'
            # AppArmor's profiles for libvirt know the machine's paths only; QEMU runs as its
            # own user, without them.
            'security_driver = "none"\nsecurity_default_confined = 0\n'
            f'user = "{USER}"\ngroup = "{USER}"\n'
            # A crashed QEMU would leave its guest's memory on the disk. To set the limit that
            # libvirt has by itself (none), it needs CAP_SYS_RESOURCE where the hard limit is 0, as
            # under Debian 13's sudo.
            "max_core = 0\n"
            f"remote_display_port_min = {SCREEN_PORTS[0]}\n"
            f"remote_display_port_max = {SCREEN_PORTS[1]}\n" + _moving(plan),
        ),
    )


def log_daemon(plan: Plan) -> Service:
    dirs, files = _common(plan)
    return Service(
        LOG,
        command=_command(plan, "virtlogd", "--pid-file", f"{plan.cloud.run}/libvirt/virtlogd.pid"),
        environment=_environment(plan),
        folders=dirs,
        files=files,
        confinement=OWN_FOLDERS,
        ready=accepting(plan.cloud.run / "libvirt" / "virtlogd-sock"),
        listens="unix",
    )


def daemon(plan: Plan) -> Service:
    dirs, files = _common(plan)
    cloud, given = plan.cloud, plan.trusting
    certificates = (
        tls.folder(cloud) / "node.crt",
        peers(cloud) / "cacert.pem",
        streams(cloud) / "server-cert.pem",
    )

    # QEMU's user passes through to its key.
    places = (peers(cloud), streams(cloud)) if given else ()
    keys = tuple(Folder(place, group=USER, mode=0o710) for place in places)

    def hand_over(step: Step) -> None:
        """QEMU's key to its user, who may not have been there when it was made."""
        if given:
            users.own(streams(cloud) / "server-key.pem", USER)

    def probe_emulators(step: Step) -> None:
        """libvirt asks every QEMU what it can do, once, seconds each; not while Nova waits."""
        step.note("libvirt to look at the emulators")
        step.run(["virsh", f"--connect={plan.cloud.libvirt_uri}", "capabilities"])

    return Service(
        LIBVIRTD,
        # --listen: where libvirtd.conf says.
        command=_command(
            plan, "libvirtd", "--listen", "--pid-file", f"{cloud.run}/libvirt/libvirtd.pid"
        ),
        environment=_environment(plan),
        folders=(*dirs, *keys),
        files=files,
        reads=certificates if given else (),
        after=("virtlogd",),
        prepare=hand_over,
        confinement=OWN_FOLDERS,
        settle=probe_emulators,
        ready=accepting(cloud.run / "libvirt" / "libvirt-sock"),
        listens=f"unix, {given.address}:{LIBVIRT_PORT}" if given else "unix",
    )


LIBVIRTD = Definition(
    name="libvirtd",
    title="Virtual machines (libvirtd)",
    describe=daemon,
    roles=frozenset((Role.COMPUTE,)),
    root="starts QEMU, in a mount namespace of its own",
    needs=(
        Need.OPTION_ROM,
        Need.VIRSH,
        Need.LIBVIRT,
        Need.LIBVIRT_QEMU,
        Need.LIBVIRT_STORAGE,
        Need.LIBVIRT_USER,
        Need.FIRMWARE_AARCH64,
        Need.FIRMWARE_ARMV7,
        Need.EMULATORS,
        Need.SCREENS,
        Need.OWN_EMULATOR,
    ),
    foundation=True,
)
LOG = Definition(
    name="virtlogd",
    title="Console logs (virtlogd)",
    describe=log_daemon,
    roles=frozenset((Role.COMPUTE,)),
    needs=(Need.LIBVIRT_LOG,),
    root="writes the consoles of servers",
    foundation=True,
)
