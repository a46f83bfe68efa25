"""Services as data: names, order, who may read what, the gateway's way to each."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from configparser import RawConfigParser
from dataclasses import replace
from pathlib import Path

import pytest
from nodes_kit import GIVEN, MEMBER
from plans_kit import NODE, make_plan
from supervisor.options import ServerOptions

from dozencloud.cloud import certificates, tls
from dozencloud.cloud.plan import Node, Plan
from dozencloud.facts import gather
from dozencloud.host import users
from dozencloud.host.confinement import Unconfined
from dozencloud.lifecycle import stop
from dozencloud.lifecycle.bringup import Bringup
from dozencloud.services import ALL, services
from dozencloud.services.gateway import PAGES
from dozencloud.services.gateway import USER as GATEWAY_USER
from dozencloud.services.libvirt import USER as QEMU_USER
from dozencloud.services.options import ini
from dozencloud.services.rabbitmq import password_hash
from dozencloud.supervision.client import render, variables
from dozencloud.supervision.service import GROUP, File, Service
from dozencloud.tasks.graph import Graph


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_plan(tmp_path_factory.mktemp("p"))


@pytest.fixture(scope="module")
def every(plan: Plan) -> Mapping[str, Service]:
    made = services(plan)
    assert len({service.name for service in made}) == len(made)
    return {service.name: service for service in made}


@pytest.fixture(scope="module")
def secret(plan: Plan, every: Mapping[str, Service]) -> re.Pattern[str]:
    """Matches every password of the cloud, and what RabbitMQ stores of one."""
    values = set(json.loads(plan.secrets.path.read_text()).values())
    # A database and a Keystone account of each, that whose token Nova sends, broker, metadata.
    assert len(values) == 12
    values |= {password_hash(value) for value in values}
    return re.compile("|".join(map(re.escape, values)))


# ---- names and order ----------------------------------------------------------------------


def test_names_fit_everywhere(every: Mapping[str, Service]) -> None:
    for service in every.values():
        # Part of file names, of task names, and of what people type.
        assert re.fullmatch(r"[a-z][a-z-]*[a-z]", service.name)
        assert service.title
    assert len({service.title for service in every.values()}) == len(every)


def test_the_order_of_starts_leads_from_service_to_service(
    plan: Plan, every: Mapping[str, Service]
) -> None:
    known = {each.name for each in ALL} | {task.name for task in Bringup(plan, gather()).tasks()}
    # Those of clouds with a card for floating IPs, or with nodes.
    known |= {"card", "node-certificates"}
    for service in every.values():
        assert set(service.after) <= known, service.name
        assert service.name not in service.after
        assert len(set(service.after)) == len(service.after), service.name


@pytest.mark.parametrize("first_server", [True, False])
def test_the_whole_graph_has_no_circle(plan: Plan, first_server: bool) -> None:
    tasks = Bringup(plan, gather()).tasks(first_server=first_server)
    names = [task.name for task in tasks]
    assert len(set(names)) == len(names)
    Graph(tasks)  # refuses circles and unknown names
    assert set(names) >= {service.name for service in services(plan)}


def test_start_needs_no_network_and_no_packages(plan: Plan) -> None:
    tasks = Bringup(plan, gather()).control_tasks()
    Graph(tasks)
    assert {"packages", "bytecode", "tiny-image", "catalogue"}.isdisjoint(t.name for t in tasks)


def test_what_stops_last_is_there(every: Mapping[str, Service]) -> None:
    assert set(every) >= stop.FOUNDATION
    for service in every.values():
        if service.name in stop.FOUNDATION:
            assert set(service.after) & set(every) <= stop.FOUNDATION, service.name


def test_every_user_is_made(plan: Plan, every: Mapping[str, Service]) -> None:
    made = Bringup(plan, gather())._users()
    used = {service.user for service in every.values()}
    used |= {folder.owner for service in every.values() for folder in service.folders}
    used |= {file.owner for service in every.values() for file in service.files}
    assert used - {"root"} <= set(made)
    assert all(user.startswith("dozen-") for user in made)
    # A guest that breaks out of QEMU is this user: no way to the services' sockets.
    assert made[QEMU_USER] != GROUP
    assert "root" not in made


def test_no_network_service_of_ours_is_root(every: Mapping[str, Service]) -> None:
    roots = {service.name for service in every.values() if service.user == "root"}
    assert roots == {
        # nginx drops to its own user by itself.
        *("gateway", "nova-compute", "privsep", "libvirtd", "virtlogd"),
        *("ovn-controller", "ovs-switch", "ovs-db", "ovn-agent", "port-guard"),
    }


# ---- secrets ------------------------------------------------------------------------------


def files(every: Mapping[str, Service]) -> list[tuple[Service, File]]:
    return [(service, file) for service in every.values() for file in service.files]


def test_a_file_with_a_secret_is_its_service_s_alone(
    every: Mapping[str, Service], secret: re.Pattern[str]
) -> None:
    private = [(s, f) for s, f in files(every) if secret.search(f.content)]
    assert {file.path.name for _, file in private} >= {
        *("keystone.conf", "nova.conf", "neutron.conf", "glance-api.conf", "placement.conf"),
        *("definitions.json", "agent.ini"),
    }
    for service, file in private:
        assert file.mode == 0o600, file.path
        assert file.owner == service.user, file.path


def test_no_secret_where_others_see_it(
    every: Mapping[str, Service], secret: re.Pattern[str]
) -> None:
    """Command lines are for everybody; so is what status and messages show."""
    for service in every.values():
        for text in (*service.command, service.title, service.listens, service.name):
            assert not secret.search(text), service.name
        for value in service.environment.values():
            assert not secret.search(value), service.name


def test_compute_knows_no_password_of_a_database(plan: Plan, every: Mapping[str, Service]) -> None:
    passwords = [v for k, v in json.loads(plan.secrets.path.read_text()).items() if "mariadb" in k]
    for name in ("nova-compute", "ovn-agent", "privsep", "libvirtd"):
        for file in every[name].files:
            assert not any(password in file.content for password in passwords), file.path


def test_each_service_has_one_database_account(plan: Plan, every: Mapping[str, Service]) -> None:
    secrets = json.loads(plan.secrets.path.read_text())
    accounts = {name: value for name, value in secrets.items() if name.startswith("mariadb.")}
    for service, file in files(every):
        held = {name for name, value in accounts.items() if value in file.content}
        assert len(held) <= 1, (service.name, held)


def test_the_same_path_has_the_same_content_and_owner(every: Mapping[str, Service]) -> None:
    seen: dict[Path, File] = {}
    for _, file in files(every):
        assert seen.setdefault(file.path, file) == file


def test_files_are_in_folders_that_are_made(every: Mapping[str, Service]) -> None:
    folders = {folder.path for service in every.values() for folder in service.folders}
    for _, file in files(every):
        assert file.path.parent in folders, file.path


def test_everything_is_below_the_cloud_s_own_folders(
    plan: Plan, every: Mapping[str, Service]
) -> None:
    for service in every.values():
        paths = [item.path for item in service.folders] + [item.path for item in service.files]
        for path in paths:
            assert path.is_relative_to(plan.cloud.root or "/"), path


def test_parents_of_folders_come_first(plan: Plan, every: Mapping[str, Service]) -> None:
    """A folder that `mkdir --parents` makes would be root's."""
    # That of the sockets is made before all of them.
    seen = {*plan.cloud.folders, plan.cloud.run / "api"}
    for service in every.values():
        for folder in service.folders:
            assert folder.path.parent in seen, folder.path
            seen.add(folder.path)


# ---- who listens where --------------------------------------------------------------------


def test_only_the_gateway_listens_beyond_this_machine(every: Mapping[str, Service]) -> None:
    for service in every.values():
        address = service.listens
        if service.name != "gateway":
            assert address in ("", "unix") or address.startswith(("/", "127.0.0.1:")), address
    listens = re.findall(r"^ *listen (.+);$", gateway_config(every), re.MULTILINE)
    assert listens == ["443 ssl so_keepalive=5m:30s:4", "127.0.0.1:17774"]


def gateway_config(every: Mapping[str, Service]) -> str:
    (file,) = every["gateway"].files
    return file.content


def test_the_gateway_knows_the_way_to_every_api(every: Mapping[str, Service]) -> None:
    config = gateway_config(every)
    upstreams = dict(re.findall(r"upstream (\S+) \{ server unix:(\S+?);", config))
    apis = {s.name: s.command for s in every.values() if "wsgi" in s.command}
    del apis["nova-metadata"]  # only the metadata agent asks it, on its own socket
    lanes = {}
    for name, command in apis.items():
        _, socket, prefix, threads, *lane = command[command.index("wsgi") + 1 :]
        assert upstreams[name] == socket
        assert int(threads) == 8
        if lane:
            lanes[Path(lane[0]).parent.name] = lane[0]
        if prefix:
            # Once in the public server, once in the internal one.
            assert config.count(f"location {prefix}/ {{ proxy_pass http://{name}; ") == 2
            assert config.count(f"location = {prefix} {{ proxy_pass http://{name}; ") == 2
            assert every[name].reached == prefix
    # For what takes its time: logins and image data.
    assert set(lanes) == {"keystone-logins", "glance-data"}
    assert {name: upstreams[name] for name in lanes} == lanes
    assert set(apis) | set(lanes) == set(upstreams)


def test_metadata_is_on_no_port_of_the_gateway(every: Mapping[str, Service]) -> None:
    _, internal = re.findall(r"^  server \{\n.*?^  \}$", gateway_config(every), re.M | re.S)
    assert "metadata" not in gateway_config(every)
    assert "ssl" not in internal
    agent = every["ovn-agent"].files[0].content
    assert "nova_metadata_port" not in agent
    _, socket, *_ = every["nova-metadata"].command[-4:]
    assert f"nova_metadata = {socket}\n" in agent


def test_consoles_are_pages_and_a_socket_each_on_the_public_port(
    every: Mapping[str, Service],
) -> None:
    public, internal = re.findall(r"^  server \{\n.*?^  \}$", gateway_config(every), re.M | re.S)
    assert "/console/" not in internal
    proxy = every["nova-consoles"].listens
    for kind, base in (("serial", "wss"), ("vnc", "https")):
        (place,) = re.findall(rf"location = /console/{kind}/socket {{.*?}}", public, re.S)
        assert f"proxy_pass http://{proxy};" in place
        assert "proxy_set_header Upgrade $http_upgrade;" in place
        # Nova compares the page's origin with both.
        assert "proxy_set_header Host $http_host;" in place
        assert "proxy_set_header X-Forwarded-Proto $scheme;" in place
        content = "".join(file.content for file in every["nova-compute"].files)
        assert re.search(rf"base_url = {base}://.+/console/{kind}/", content)
    assert f"alias {PAGES}/;" in public
    assert (PAGES / "serial" / "index.html").is_file()


@pytest.mark.functional
@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_accepts_it(plan: Plan, tmp_path: Path) -> None:
    own = make_plan(tmp_path)
    tls.folder(own.cloud).mkdir(parents=True)
    own.cloud.run.mkdir()
    certificates.issue_gateway(own.cloud)
    service = ALL[0].describe(own)
    for folder in service.folders:
        folder.path.mkdir(parents=True)
    (file,) = service.files
    content = file.content
    if users.missing({GATEWAY_USER: GROUP}):
        content = content.replace(f"user {GATEWAY_USER} {GROUP};", "user nobody nogroup;")
    file.path.write_text(content)
    done = subprocess.run(
        [*service.command, "-t"], check=False, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr, done.stderr


# ---- what is rendered ---------------------------------------------------------------------


def test_supervisord_takes_all_of_it(
    plan: Plan, every: Mapping[str, Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    # The users are made at the first `up` only.
    unprivileged = [replace(service, user="root") for service in every.values()]
    config = tmp_path / "supervisord.conf"
    config.write_text(render(plan.cloud, unprivileged))
    for folder in plan.cloud.folders:
        folder.mkdir(parents=True, exist_ok=True)
    options = ServerOptions()
    options.realize(["-c", str(config)])
    programs = {g.name: g.process_configs[0] for g in options.process_group_configs}
    assert set(programs) == set(every)
    for name, program in programs.items():
        assert shlex.split(program.command) == list(every[name].command), name
        assert program.environment == variables(every[name]), name


def test_configuration_files_are_read_as_they_were_meant(every: Mapping[str, Service]) -> None:
    for _, file in files(every):
        if file.path.suffix == ".conf" and "\n[" in file.content:
            parser = RawConfigParser(strict=True)
            parser.read_string(file.content)
            assert parser.sections(), file.path
        if file.path.suffix == ".json":
            json.loads(file.content)


def test_ini() -> None:
    text = ini({"A": {"yes": True, "no": False, "list": ("x", 1), "path": Path("/x")}, "B": {}})
    assert text == "[A]\nyes = true\nno = false\nlist = x,1\npath = /x\n\n[B]\n"


@pytest.mark.parametrize(
    ("virt_type", "kvm_present", "mode", "hidden"),
    [
        ("qemu", True, "cpu_mode = none", True),
        ("qemu", False, "cpu_mode = none", False),
        ("kvm", True, "cpu_mode = host-passthrough", False),
    ],
)
def test_emulation_and_kvm(
    tmp_path: Path, virt_type: str, kvm_present: bool, mode: str, hidden: bool
) -> None:
    node = replace(NODE, virt_type=virt_type, kvm_present=kvm_present)
    made = {s.name: s for s in services(make_plan(tmp_path, node))}
    (file,) = made["nova-compute"].files
    assert f"virt_type = {virt_type}\n" in file.content
    assert f"{mode}\n" in file.content
    assert bool(made["libvirtd"].environment["NO_KVM"]) is hidden


def test_settings_arrive(tmp_path: Path) -> None:
    settings = (
        "[gateway]\nport = 8443\n[internal]\napi = 1001\nbroker = 1002\nbroker_cluster = 1003\n"
        "broker_names = 1004\nconsoles = 1005\n[services]\nthreads = 3\n"
        "[compute]\nreserved_memory = 77\nscreens = false\n"
        "[network]\ndns = ['192.0.2.53']\n"
    )
    made = {s.name: s for s in services(make_plan(tmp_path, settings=settings))}
    assert "listen 8443 ssl " in gateway_config(made)
    assert "listen 127.0.0.1:1001;" in gateway_config(made)
    assert made["keystone"].command[-4] == "3"
    content = {name: "".join(f.content for f in s.files) for name, s in made.items()}
    assert "reserved_host_memory_mb = 77\n" in content["nova-compute"]
    assert "@127.0.0.1:1002/" in content["nova-compute"]
    assert "listeners.tcp.local = 127.0.0.1:1002\n" in content["rabbitmq"]
    assert made["rabbitmq"].environment["RABBITMQ_DIST_PORT"] == "1003"
    assert made["epmd"].command[-1] == made["rabbitmq"].environment["ERL_EPMD_PORT"] == "1004"
    assert "proxy_pass http://127.0.0.1:1005;" in content["gateway"]
    assert "serialproxy_port = 1005\n" in content["nova-consoles"]
    assert "base_url = wss://" in content["nova-compute"]
    assert ":8443/console/serial/socket\n" in content["nova-compute"]
    assert "[vnc]\nenabled = false\n" in content["nova-compute"]
    assert "dns_servers = 192.0.2.53\n" in content["neutron"]


def test_rabbitmq_s_hash() -> None:
    """base64(salt + sha256(salt + password)), and always the same."""
    import base64
    import hashlib

    raw = base64.b64decode(password_hash("secret"))
    assert hashlib.sha256(raw[:4] + b"secret").digest() == raw[4:]
    assert password_hash("secret") == password_hash("secret") != password_hash("other")


# ---- tunnels ------------------------------------------------------------------------------

GENEVE_TOO, VXLAN_ONLY = NODE, replace(NODE, encapsulation="vxlan")
BOTH = "geneve,vxlan"


@pytest.mark.parametrize(
    ("controller", "members", "spoken", "own"),
    [
        (GENEVE_TOO, [], "geneve", "geneve"),
        (GENEVE_TOO, ["geneve", "geneve"], "geneve", "geneve"),
        (GENEVE_TOO, ["geneve", "vxlan"], BOTH, BOTH),
        (VXLAN_ONLY, ["geneve"], BOTH, "vxlan"),
        (VXLAN_ONLY, ["vxlan"], BOTH, "vxlan"),
    ],
)
def test_vxlan_is_spoken_where_a_machine_needs_it(
    tmp_path: Path, controller: Node, members: list[str], spoken: str, own: str
) -> None:
    joined = tuple(replace(MEMBER, encapsulation=each) for each in members)
    plan = replace(make_plan(tmp_path, controller), members=joined)
    assert (plan.spoken, plan.encapsulations) == (spoken, own)


@pytest.mark.parametrize("told", ["geneve", BOTH])
def test_a_node_speaks_what_it_is_told_unless_it_cannot(tmp_path: Path, told: str) -> None:
    given = replace(GIVEN, encapsulations=told)
    assert replace(make_plan(tmp_path), membership=given).encapsulations == told
    lacking = replace(make_plan(tmp_path, VXLAN_ONLY), membership=given)
    assert lacking.encapsulations == "vxlan"


# ---- nodes that trust each other ----------------------------------------------------------


@pytest.mark.parametrize("migration", ["", "which"])
def test_a_node_hears_others_only_where_it_trusts_them(tmp_path: Path, migration: str) -> None:
    given = replace(GIVEN, migration=migration)
    every = {s.name: s for s in services(replace(make_plan(tmp_path), membership=given))}
    files = {file.path.name: file.content for s in every.values() for file in s.files}
    trusting = bool(migration)
    assert ("listen_tls = 1" in files["libvirtd.conf"]) == trusting
    assert ("listen_tls = 0" in files["libvirtd.conf"]) != trusting
    assert "listen_tcp = 0" in files["libvirtd.conf"]
    assert ('listen_addr = "192.0.2.9"' in files["libvirtd.conf"]) == trusting
    assert ("migrate_tls_force = 1" in files["qemu.conf"]) == trusting
    assert ('migration_address = "192.0.2.9"' in files["qemu.conf"]) == trusting
    compute = next(f for f in every["nova-compute"].files if f.path.name == "nova.conf")
    assert ("live_migration_uri = qemu+tls://" in compute.content) == trusting
    assert ("live_migration_with_native_tls = true" in compute.content) == trusting
    assert bool(every["libvirtd"].reads) == trusting


def test_the_controller_trusts_no_node(tmp_path: Path) -> None:
    every = services(make_plan(tmp_path, settings="[nodes]\nmigration = true"))
    files = {file.path.name: file.content for s in every for file in s.files}
    assert "listen_tls = 0" in files["libvirtd.conf"]
    assert "live_migration_uri" not in "".join(f.content for s in every for f in s.files)


def test_only_services_of_root_are_not_confined(every: Mapping[str, Service]) -> None:
    """And each says why; a capability is kept by root's only."""
    for service in every.values():
        if isinstance(service.confinement, Unconfined):
            assert service.user == "root", service.name
            assert len(service.confinement.why) > 10
        else:
            assert not service.confinement.capabilities or service.user == "root", service.name
