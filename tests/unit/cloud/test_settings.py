"""Settings: what cloud.toml may say, what is refused and how; names and paths of a cloud."""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dozencloud.cloud.installation import LONGEST_ROOT, Cloud, load, main_address
from dozencloud.cloud.settings import (
    Compute,
    Gateway,
    Image,
    Internal,
    Network,
    Nodes,
    Services,
    Settings,
    parse,
    template,
)
from dozencloud.errors import Exit, Problem

OTHER = Settings(
    gateway=Gateway(port=8443, address="cloud.example"),
    network=Network(
        provider_cidr="192.168.7.0/24",
        provider_interface="eth0",
        provider_gateway="192.168.7.1",
        floating_range="192.168.7.200-192.168.7.210",
        tenant_cidr="10.0.0.0/8",
        project_cidr="172.16.0.0/20",
        dns=("2001:db8::53",),
        datapath="netdev",
        tunnels="vxlan",
    ),
    compute=Compute(
        virt_type="qemu", screens=False, reserved_memory=0, dedicated_cpus="1", hang_seconds=0
    ),
    internal=Internal(
        api=1, broker=65535, broker_cluster=3, broker_names=4, consoles=5, node_consoles=8
    ),
    nodes=Nodes(broker=6, southbound=7, migration=True, ovn="23.03"),
    services=Services(preload=False, threads=64),
    image=Image(
        mirror='http://mirror.example/"quoted"\\',
        suite="forky",
        mirrors=("ubuntu=http://10.0.0.1",),
        download_from=("10.1.0.0/16", "[fd00::5]:8080"),
    ),
)
"""Every setting differs from its default."""

LAN = """\
[network]
provider_interface = "eth0"
provider_cidr = "10.0.0.0/24"
provider_gateway = "{}"
floating_range = "{}"
"""
"""Floating IPs in the network of a card."""


# ---- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("[gatway]", "there is no section called gatway.", "Did you mean gateway?"),
        (
            "[zzz]",
            "there is no section called zzz.",
            "Known: compute, gateway, image, internal, network, nodes, services.",
        ),
        (
            "[network]\ndatapth = 'auto'",
            "there is no setting in [network] called datapth.",
            "Did you mean datapath?",
        ),
        (
            "[gateway]\nzzz = 1",
            "there is no setting in [gateway] called zzz.",
            "Known: address, port.",
        ),
        ("gateway = 443", "gateway must be a section, not 443.", "Mend that line."),
        ("[gateway]\nport = '443'", 'gateway.port must be a whole number, not "443".', "Mend"),
        ("[gateway]\nport = true", "gateway.port must be a whole number, not true.", "Mend"),
        ("[gateway]\nport = 443.0", "gateway.port must be a whole number, not 443.0.", "Mend"),
        ("[gateway]\naddress = 10", "gateway.address must be a text, not 10.", "Mend"),
        ("[services]\npreload = 1", "services.preload must be true or false, not 1.", "Mend"),
        (
            "[network]\ndns = '9.9.9.9'",
            'network.dns must be a list of texts, not "9.9.9.9".',
            "Mend",
        ),
        ("[network]\ndns = [9]", "network.dns must be a list of texts, not [9].", "Mend"),
        (
            "[image]\nsuite = 2026-01-01",
            'image.suite must be a text, not "2026-01-01".',
            "Mend",
        ),
        ("[gateway]\nport = 0", "gateway.port must be a port from 1 to 65535, not 0.", "Mend"),
        (
            "[internal]\nbroker = 65536",
            "internal.broker must be a port from 1 to 65535, not 65536.",
            "Mend",
        ),
        (
            "[gateway]\nport = 17672",
            "gateway.port and internal.broker are the same port.",
            "Give each its own.",
        ),
        (
            "[internal]\napi = 9\nbroker_names = 9",
            "internal.api and internal.broker_names are the same port.",
            "Give each its own.",
        ),
        (
            "[network]\ndatapath = 'dpdk'",
            'network.datapath must be one of auto, system, netdev, not "dpdk".',
            "Mend",
        ),
        (
            "[network]\ntunnels = 'gre'",
            'network.tunnels must be one of auto, geneve, vxlan, not "gre".',
            "Mend",
        ),
        (
            "[compute]\nvirt_type = 'xen'",
            'compute.virt_type must be one of auto, kvm, qemu, not "xen".',
            "Mend",
        ),
        ("[network]\ntenant_cidr = ''", "network.tenant_cidr: Address cannot be empty.", "Mend"),
        (
            "[network]\ntenant_cidr = '10.0.0.1/24'",
            "network.tenant_cidr: 10.0.0.1/24 has host bits set.",
            "Mend",
        ),
        (
            "[network]\nprovider_cidr = '10.0.0.0/33'",
            "network.provider_cidr: '33' is not a valid netmask.",
            "Mend",
        ),
        (
            "[network]\nprovider_cidr = 'fd00::/64'",
            "network.provider_cidr: Expected 4 octets in 'fd00::'.",
            "Mend",
        ),
        (
            "[network]\nprovider_cidr = '10.0.0.0/28'",
            'network.provider_cidr must be a network of at least 32 addresses (/27), not "10.0',
            "Mend",
        ),
        *(
            (
                f"[network]\n{name} = '{wrong}'",
                f"network.{name} must be a network that machines can be in, without {special} (",
                "Mend",
            )
            for name in ("provider_cidr", "tenant_cidr", "project_cidr")
            for wrong, special in (
                ("0.0.0.0/0", "0.0.0.0/8"),
                ("0.0.1.0/24", "0.0.0.0/8"),
                ("127.0.0.0/24", "127.0.0.0/8"),
                ("169.254.0.0/16", "169.254.0.0/16"),
                ("224.0.0.0/24", "224.0.0.0/4"),
                ("250.0.0.0/24", "240.0.0.0/4"),
            )
        ),
        (
            "[network]\nproject_cidr = '10.13.0.0/27'",
            "network.project_cidr must be a network of at least 64 addresses (/26), not",
            "Mend",
        ),
        (
            "[network]\nprovider_gateway = '10.0.0.1'",
            "network.provider_gateway counts only with network.provider_interface.",
            "Name the interface",
        ),
        (
            "[network]\nprovider_interface = 'eth0; reboot'",
            'network.provider_interface must be the name of a network card, not "eth0; reboot".',
            "Mend",
        ),
        (
            "[network]\nprovider_interface = 'eth0'\nprovider_cidr = '10.0.0.0/24'",
            "with network.provider_interface, network.provider_gateway must be said, too.",
            "Ask",
        ),
        (
            LAN.format("10.0.1.1", "10.0.0.9-10.0.0.19"),
            "network.provider_gateway must be an address in 10.0.0.0/24",
            "Mend",
        ),
        *(
            (
                LAN.format("10.0.0.1", wrong),
                "network.floating_range must be FIRST-LAST, in 10.0.0.0/24",
                "Mend",
            )
            for wrong in (
                *("10.0.0.9", "10.0.0.9-", "10.0.0.9-10.0.0.9", "10.0.0.9-10.0.0.8"),
                *("10.0.0.9-10.0.1.9", "10.0.0.0-10.0.0.9", "10.0.0.9-10.0.0.12-10.0.0.14"),
            )
        ),
        (
            "[network]\ndns = ['9.9.9.9', 'dns.example']",
            'network.dns must be a list of IP addresses, not "dns.example".',
            "Mend",
        ),
        (
            "[gateway]\naddress = 'a b'",
            'gateway.address must be an IPv4 address or host name, not "a b".',
            "Mend",
        ),
        (
            "[gateway]\naddress = 'x;}'",
            "gateway.address must be an IPv4 address or host name",
            "Mend",
        ),
        *(
            (
                f"[gateway]\naddress = '{wrong}'",
                "gateway.address must be an IPv4 address or host name",
                "Mend",
            )
            for wrong in (
                *("0.0.0.0", "224.0.0.1", "255.255.255.255", "10.1", "1.2.3.999", "443"),  # noqa: S104
                *("cloud.example.", "a..b", "-a.b", "a-.b", "a" * 64, "a." * 126 + "bc"),
            )
        ),
        *(
            (f"[network]\ndns = {servers}", f"network.dns must be {wanted}", "Mend")
            for servers, wanted in (
                (["127.0.0.53"], "a list of addresses that servers can ask, not"),
                (["::1"], "a list of addresses that servers can ask, not"),
                (["0.0.0.0"], "a list of addresses that servers can ask, not"),  # noqa: S104
                (["9.9.9.9", "9.9.9.9"], "at most 5 addresses, each once, not"),
                ([f"10.0.0.{n}" for n in range(6)], "at most 5 addresses, each once, not"),
            )
        ),
        (
            "[internal]\napi = 20500",
            "internal.api must be none of the ports 20000 to 21999, which are for consoles of",
            "Mend",
        ),
        ("[image]\nmirror = ''", 'image.mirror must be an address (http://…), not "".', "Mend"),
        ("[image]\nmirror = 'ftp://a'", "image.mirror must be an address (http://…), not", "Mend"),
        ("[image]\nsuite = '../x'", "image.suite must be the name of a release, not", "Mend"),
        ("[services]\nthreads = 0", "services.threads must be a number from 1 to 64", "Mend"),
        ("[services]\nthreads = 65", "services.threads must be a number from 1 to 64", "Mend"),
        (
            "[compute]\ndedicated_cpus = '3-2'",
            "compute.dedicated_cpus must be CPUs such as 2-3,6, not",
            "Mend",
        ),
        (
            "[compute]\nhang_seconds = -1",
            "compute.hang_seconds must be a number of seconds, not -1.",
            "Mend",
        ),
        (
            "[compute]\nreserved_memory = -5",
            "compute.reserved_memory must be a number of MiB, not -5.",
            "Mend",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, what: str, mend: str) -> None:
    with pytest.raises(Problem) as refused:
        parse(tomllib.loads(text), "here")
    assert refused.value.what.startswith(f"here: {what}")
    assert refused.value.mend.startswith(mend)
    assert refused.value.code == Exit.USAGE


# ---- what is taken ------------------------------------------------------------------------


def test_nothing_said_is_every_default() -> None:
    assert parse({}) == Settings()


@pytest.mark.parametrize("edge", [1, 65535])
def test_ports_at_the_edges(edge: int) -> None:
    assert parse({"gateway": {"port": edge}}).gateway.port == edge


def test_a_network_of_32_addresses_is_enough() -> None:
    settings = parse({"network": {"provider_cidr": "10.0.0.0/27"}})
    assert Cloud(Path("/x"), settings).provider.num_addresses == 32


def test_networks_of_projects_need_room_for_one() -> None:
    assert parse({"network": {"project_cidr": "10.13.0.0/26"}}) != Settings()


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "localhost", "1x.Example", "a-b.c"])
def test_addresses_of_a_gateway(address: str) -> None:
    assert parse({"gateway": {"address": address}}).gateway.address == address


def test_other_differs_everywhere() -> None:
    default = Settings()
    for section in fields(Settings):
        here, there = getattr(OTHER, section.name), getattr(default, section.name)
        assert all(getattr(here, f.name) != getattr(there, f.name) for f in fields(here))


@pytest.mark.parametrize("settings", [Settings(), OTHER], ids=["defaults", "all changed"])
def test_the_template_is_read_back_as_it_was(settings: Settings) -> None:
    assert parse(tomllib.loads(template(settings))) == settings


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_survives_the_template(text: str) -> None:
    settings = replace(Settings(), image=Image(mirrors=(text,)))
    assert parse(tomllib.loads(template(settings))) == settings


def test_the_template_shows_every_default_as_a_comment() -> None:
    text = template()
    assert tomllib.loads(text) == {section.name: {} for section in fields(Settings)}
    shown = "\n".join(
        line.removeprefix("# ") if " = " in line else line for line in text.splitlines()
    )
    said = tomllib.loads(shown)
    for section in fields(Settings):
        names = {f.name for f in fields(getattr(Settings(), section.name))}
        assert set(said[section.name]) == names
    assert parse(said) == Settings()


def test_the_template_explains_every_setting() -> None:
    lines = template().splitlines()
    for section in fields(Settings):
        for item in fields(getattr(Settings(), section.name)):
            assert item.metadata["doc"].endswith(".")
            assert f"# {item.metadata['doc']}" in lines


# ---- the file -----------------------------------------------------------------------------


def write(root: Path, content: bytes) -> None:
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "cloud.toml").write_bytes(content)


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short path: pytest's own are too long for a cloud."""
    folder = tmp_path_factory.mktemp("c")
    monkeypatch.setattr("dozencloud.cloud.installation.LONGEST_ROOT", len(str(folder)))
    return folder


def test_load_without_a_file(root: Path) -> None:
    assert load(root) == Cloud(root)
    assert not load(root).exists


def test_load_reads_the_file(root: Path) -> None:
    write(root, b"[gateway]\nport = 8443\n")
    cloud = load(root)
    assert cloud.exists
    assert cloud.settings.gateway.port == 8443


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[gateway\n", "is not valid TOML: Expected ']' at the end of a table declaration (at"),
        (b"[gateway]\nport = 1\nport = 2\n", "is not valid TOML: Cannot overwrite a value"),
        (b"\xff\xfe[gateway]", "is not valid TOML: 'utf-8' codec can't decode byte 0xff"),
        (b"[gateway]\nport = 0\n", ": gateway.port must be a port"),
    ],
)
def test_load_of_a_damaged_file(root: Path, content: bytes, what: str) -> None:
    write(root, content)
    with pytest.raises(Problem) as refused:
        load(root)
    assert refused.value.what.startswith(str(root / "etc" / "cloud.toml"))
    assert what in refused.value.what
    assert refused.value.code == Exit.USAGE


def test_root_as_long_as_may_be_and_one_longer(tmp_path: Path) -> None:
    longest = Path("/" + "x" * (LONGEST_ROOT - 1))
    assert load(longest).root == longest
    with pytest.raises(Problem, match="too long for a cloud") as refused:
        load(Path(f"{longest}x"))
    assert refused.value.code == Exit.USAGE


@pytest.mark.parametrize(
    "odd", ["a b", "a'b", "a%b", "a+b", "a:b", "a,b", "a=b", "a#b", "ä", "a\nb", "a\udcff"]
)
def test_a_root_that_not_all_programs_can_take(odd: str) -> None:
    with pytest.raises(Problem, match="characters that not all programs") as refused:
        load(Path("/srv", odd))
    assert refused.value.code == Exit.USAGE


def test_a_root_with_every_kind_of_character_that_may_be() -> None:
    assert load(Path("/srv/Az0._-")).root == Path("/srv/Az0._-")


def test_a_root_that_leads_nowhere() -> None:
    with pytest.raises(Problem, match="leads nowhere: Could not") as refused:
        load(Path("~nobody-of-that-name/cloud"))
    assert refused.value.code == Exit.USAGE


def test_the_longest_root_leaves_room_for_the_longest_socket() -> None:
    run = Cloud(Path("/" + "x" * (LONGEST_ROOT - 1))).run
    for tail in ("libvirt/virtlogd-admin-sock", "openvswitch/ovn-controller.4194304.ctl"):
        assert len(str(run / tail)) <= 107


def test_a_relative_root_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.chdir(root.parent)
    assert load(Path(root.name)).root == root


# ---- names, paths, addresses --------------------------------------------------------------

MACHINE = Cloud()
ROOTED = Cloud(Path("/srv/test"))


def test_paths_without_root_are_those_of_the_fhs() -> None:
    assert [str(folder) for folder in MACHINE.folders] == [
        "/etc/dozencloud",
        "/var/lib/dozencloud",
        "/var/log/dozencloud",
        "/run/dozencloud",
    ]


def test_paths_with_root_are_all_below_it() -> None:
    assert [str(folder) for folder in ROOTED.folders] == [
        f"/srv/test/{name}" for name in ("etc", "lib", "log", "run")
    ]
    for path in (ROOTED.cache, ROOTED.file, ROOTED.ca, ROOTED.supervisor_socket):
        assert path.is_relative_to("/srv/test")
    assert "socket=/srv/test/run/" in ROOTED.libvirt_uri


@settings(deadline=None)  # of a busy machine
@given(st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_names_fit_whatever_the_root(text: str | None) -> None:
    cloud = Cloud(Path("/", text) if text else None)
    assert cloud.name.isascii()
    assert cloud.name.isalnum()
    # os-vif cuts names of bridges to 14 characters; IFNAMSIZ is 16 with the closing NUL.
    assert len(cloud.provider_bridge) <= 14
    assert all(len(device) <= 15 for device in cloud.link_devices)
    assert len({*cloud.link_devices, cloud.provider_bridge}) == 3
    host, inner = map(ipaddress.ip_address, cloud.link)
    (link,) = {ipaddress.ip_network(f"{end}/30", strict=False) for end in (host, inner)}
    assert link.subnet_of(ipaddress.ip_network("198.18.0.0/16"))  # type: ignore[arg-type]
    assert {host, inner} == set(link.hosts())
    assert not link.overlaps(cloud.provider)


def test_two_clouds_share_no_name() -> None:
    clouds = (MACHINE, ROOTED, Cloud(Path("/srv/test2")))
    for attribute in ("name", "provider_bridge", "namespace", "table", "marker", "link"):
        assert len({str(getattr(cloud, attribute)) for cloud in clouds}) == 3, attribute


def test_only_a_cloud_with_a_root_has_a_namespace() -> None:
    assert MACHINE.namespace is None
    assert ROOTED.namespace == f"dozen-{ROOTED.name}"


def test_provider_network() -> None:
    assert str(MACHINE.provider) == "172.24.4.0/24"
    assert MACHINE.provider_gateway == "172.24.4.1"
    assert str(ROOTED.provider).startswith("198.19.")
    assert str(Cloud(None, OTHER).provider) == "192.168.7.0/24"
    assert MACHINE.provider_address == "172.24.4.1"
    assert MACHINE.floating_range == ("172.24.4.10", "172.24.4.250")


def test_floating_ips_in_the_network_of_a_card() -> None:
    cloud = Cloud(None, OTHER)
    assert cloud.provider_address is None
    assert cloud.provider_gateway == "192.168.7.1"
    assert cloud.floating_range == ("192.168.7.200", "192.168.7.210")
    assert [str(network) for network in cloud.floating_networks] == [
        *("192.168.7.200/29", "192.168.7.208/31", "192.168.7.210/32")
    ]
    assert MACHINE.floating_networks == [MACHINE.provider]


@pytest.mark.parametrize(
    ("gateway", "url"),
    [
        (Gateway(address="a.example"), "https://a.example"),
        (Gateway(address="a.example", port=8443), "https://a.example:8443"),
        (Gateway(), f"https://{ROOTED.link[1]}"),
    ],
)
def test_public_url(gateway: Gateway, url: str) -> None:
    assert Cloud(ROOTED.root, Settings(gateway=gateway)).public_url == url


def test_the_machine_is_reached_by_its_own_address() -> None:
    assert MACHINE.address == main_address() == str(ipaddress.IPv4Address(main_address()))


def test_command_as_a_person_types_it() -> None:
    assert MACHINE.command("logs", "keystone") == "sudo ./dozen logs keystone"
    assert ROOTED.command("up") == "sudo ./dozen --root /srv/test up"


def test_a_command_can_be_typed_as_it_is_shown() -> None:
    assert Cloud().command("ssh", "my server") == "sudo ./dozen ssh 'my server'"
    command = ROOTED.command("join", "https://192.0.2.1", "--token", "dz1.x")
    assert command == "sudo ./dozen --root /srv/test join https://192.0.2.1 --token dz1.x"
