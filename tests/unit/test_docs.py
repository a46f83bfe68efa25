"""The documentation says what the code does: made tables, commands, settings, packages, links."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
from pages_kit import CHECKOUT, read, rows, section

from dozencloud.checks.doctor import Needs
from dozencloud.cli import cli
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Node, Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.settings import FIRST_UP, Settings, parse
from dozencloud.errors import Exit
from dozencloud.facts import gather
from dozencloud.host.distributions import registry
from dozencloud.lifecycle.bringup import Bringup
from dozencloud.services import ALL, services

sys.path.insert(0, str(CHECKOUT / "tools"))

import make_docs
from made import commands, markdown
from made.registry import PICTURES, TABLES

PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted(CHECKOUT.glob("docs/*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")


def named(text: str) -> list[str]:
    """What stands in code marks in the first column of a table."""
    return [name for row in rows(text) for name in CODE.findall(row[0])]


def anchors(page: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE):
        kept = "".join(
            c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LN"
        )
        found.add(kept.replace(" ", "-"))
    return found


def options(command: click.Command) -> set[str]:
    """Every spelling of the options of a command, or of all commands in a group below the root."""
    own = {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    if isinstance(command, click.Group) and command is not cli:
        return own.union(*(options(each) for each in command.commands.values()))
    return own


def settings() -> dict[str, dict[str, Field[Any]]]:
    """Section -> setting -> its field."""
    sections: dict[str, Any] = {part.name: part.default for part in fields(Settings)}
    return {name: {f.name: f for f in fields(default)} for name, default in sections.items()}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    root = tmp_path_factory.mktemp("c")
    node = Node("node", "chassis", "qemu", "netdev", "x86_64", kvm_present=True)
    return Plan(Cloud(root), node, Secrets(root / "secrets.json"), Path(sys.prefix))


# ---- what is made from the code -----------------------------------------------------------

SECTIONS = {
    "options before the command": ("operations.md", "Commands"),
    **{f"options of {name}": ("operations.md", f"dozen {name}") for name in cli.commands},
    "exit statuses": ("operations.md", "Exit statuses"),
    "readable files": ("operations.md", "Files and folders"),
    "settings": ("operations.md", "Settings"),
    "users": ("security.md", "Who runs as what"),
    "accounts": ("security.md", "The accounts of the services"),
    "rights": ("security.md", "The accounts of the services"),
    "listeners": ("architecture.md", "What runs"),
    "wings": ("architecture.md", "The plan of the house"),
    "tasks": ("architecture.md", "Tasks"),
    "packages": ("dependencies.md", "Packages of the system that `up` installs"),
}
"""Table -> where a person looks for it."""


def test_tables_and_pictures_are_as_the_code_is() -> None:
    assert make_docs.check(CHECKOUT / "docs", TABLES, PICTURES) == []


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_in_its_section(name: str) -> None:
    page, heading = SECTIONS[name]
    assert f"<!-- made: {name} -->" in section(read(f"docs/{page}"), heading)


def test_each_command_with_options_has_its_table() -> None:
    having = {f"options of {name}" for name, command in cli.commands.items() if options(command)}
    assert having == {name for name in TABLES if name.startswith("options of")}


@pytest.mark.parametrize("name", [name for name in cli.commands if options(cli.commands[name])])
def test_a_table_of_options_has_every_spelling(name: str) -> None:
    told = {word.partition(" ")[0] for word in named(commands.options_table(name))}
    assert told == options(cli.commands[name])


def test_the_options_before_the_command_are_those_of_all_commands() -> None:
    told = {word.partition(" ")[0] for word in named(commands.first_options_table())}
    assert told == {*options(cli), "-h", "--help"}


def test_each_exit_status_has_a_meaning() -> None:
    assert [row[:2] for row in rows(commands.exits_table())] == [
        (str(int(e)), e.name) for e in Exit
    ]
    assert all(row[2] for row in rows(commands.exits_table()))


def test_each_setting_has_a_row_with_its_default() -> None:
    names = [f"{section}.{key}" for section, keys in settings().items() for key in keys]
    told = rows(TABLES["settings"]())
    assert [row[0].strip("`") for row in told] == names
    for row in told:
        part, _, key = row[0].strip("`").partition(".")
        default = tomllib.loads(f"default = {row[1].strip('`')}")["default"]
        assert parse({part: {key: default}}) == Settings(), row
    assert all(row[2] and row[3] for row in told)


def test_what_counts_at_the_first_up_only_says_so(plan: Plan) -> None:
    """Doctor and `up` tell where one of these has changed since."""
    interface = replace(Settings().network, provider_interface="eth0")
    network = Cloud(plan.cloud.root, replace(Settings(), network=interface)).registered
    for name in network:
        part, _, key = name.partition(".")
        assert settings()[part][key].metadata["applied"].startswith(FIRST_UP), name


def test_each_service_has_a_row_and_root_a_reason() -> None:
    told = rows(TABLES["users"]())
    assert [row[0].strip("`") for row in told] == [each.name for each in ALL]
    assert all(bool(row[3]) == (row[1] == "root") for row in told)


def test_users_are_those_of_the_services(plan: Plan) -> None:
    told = {row[0].strip("`"): row[1] for row in rows(TABLES["users"]())}
    assert {s.name: told[s.name] for s in services(plan)} == {
        s.name: s.user for s in services(plan)
    }


def test_a_service_with_a_socket_or_port_has_a_row(plan: Plan) -> None:
    told = {row[0].strip("`") for row in rows(TABLES["listeners"]())}
    assert {service.name for service in services(plan) if service.reached} <= told


def test_every_task_has_a_row(plan: Plan) -> None:
    own = {service.name for service in services(plan)}
    tasks = {task.name for task in Bringup(plan, gather()).tasks()}
    assert tasks - own <= set(named(TABLES["tasks"]()))


def test_a_table_that_differs_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- made: x -->\n| old |\n<!-- end -->\nb\n")
    tables, pictures = {"x": lambda: "| new |"}, {"p.svg": lambda: "<svg/>"}
    said = make_docs.check(tmp_path, tables, pictures)
    assert [line.split()[0] for line in said] == ["page.md:", "p.svg"]
    assert "`x`" in said[0]
    assert make_docs.renew(tmp_path, tables, pictures) == ["page.md", "p.svg"]
    made = "a\n<!-- made: x -->\n\n| new |\n\n<!-- end -->\nb\n"
    assert page.read_text() == made
    assert make_docs.check(tmp_path, tables, pictures) == []
    assert make_docs.renew(tmp_path, tables, pictures) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- made: x -->\n",
        "<!-- made: x -->\n<!-- made: x -->\n<!-- end -->\n",
        "<!-- made: x -->\n<!-- end -->\n<!-- end -->\n",
        "<!-- made: x -->\n<!-- end -->\n<!-- made: x -->\n<!-- end -->\n",
        "<!-- made: x -->\n<!-- end -->\n<!-- made: y -->\n<!-- end -->\n",
        "    <!-- made: x -->\n    <!-- end -->\n",
    ],
)
def test_marks_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(make_docs.Misplaced):
        make_docs.check(tmp_path, {"x": lambda: "| new |"}, {})


def test_a_cell_is_one_line_and_holds_bars() -> None:
    assert markdown.table(("a", "b"), [("x|y", "one\n two"), ("", "z")]).splitlines() == [
        "| a | b |",
        "|---|---|",
        r"| x\|y | one two |",
        "| | z |",
    ]
    with pytest.raises(ValueError, match="2 cells"):
        markdown.table(("a", "b"), [("x",)])


# ---- links --------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), f"{page.name}: {target}"


def test_the_readme_leads_to_every_page() -> None:
    targets = {target.partition("#")[0] for target in LINK.findall(read("README.md"))}
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= targets


def test_the_picture_is_whole_and_names_every_service(plan: Plan) -> None:
    tree = ElementTree.parse(CHECKOUT / "docs" / "architecture.svg")  # noqa: S314 (our own)
    words = " ".join(text.text or "" for text in tree.iter("{http://www.w3.org/2000/svg}text"))
    for service in services(plan):
        assert re.search(rf"(?<![\w-]){service.name}(?![\w-])", words), service.name


# ---- commands -----------------------------------------------------------------------------


def test_no_section_for_a_command_that_is_not_there() -> None:
    headings = re.findall(r"^### dozen (\w+)$", read("docs/operations.md"), re.MULTILINE)
    assert headings == list(cli.commands)


def typed(page: str) -> Iterator[list[str]]:
    """Words after `./dozen` or `dozen` in code, as typed."""
    blocks = re.findall(r"^    (.+)$", page, re.MULTILINE)
    for text in (*CODE.findall(page), *blocks):
        for call in re.findall(r"(?:\./dozen|^dozen) ([^;|&)\"#`]+)", text):
            yield shlex.split(call)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_every_command_line_in_the_text_exists(page: Path) -> None:
    for words in typed(page.read_text(encoding="utf-8")):
        if words[0] == "--root":
            words = words[2:]
        words = [word for word in words if word != "--debug"]
        if not words or words[0].isupper() or words[0].startswith("--"):
            continue
        assert words[0] in cli.commands, words
        if words[0] in ("openstack", "ssh"):
            continue
        given = {word for word in words[1:] if word.startswith("-")}
        assert given <= options(cli.commands[words[0]]), words


# ---- settings -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_no_setting_that_is_not_there(page: Path) -> None:
    sections = settings()
    for word in CODE.findall(page.read_text(encoding="utf-8")):
        name, _, key = word.partition(" ")[0].partition(".")
        if name in sections and re.fullmatch(r"[a-z_]+", key) and key != "py":
            assert key in sections[name], word


def test_variables_are_read_somewhere() -> None:
    text = section(read("docs/operations.md"), "Settings").partition("These variables")[2]
    sources = [*CHECKOUT.glob("src/dozencloud/**/*.py"), *CHECKOUT.glob("bootstrap/*.sh")]
    code = "".join(path.read_text() for path in (*sources, CHECKOUT / "dozen"))
    for name in named(text):
        # urllib, apt and pip read these by themselves.
        assert name in code or name.endswith("_proxy"), name


# ---- what runs ----------------------------------------------------------------------------


def test_every_promise_names_a_test_that_is_there() -> None:
    promises = section(read("docs/security.md"), "What is promised")
    named = set(re.findall(r"`(test_\w+)`", promises))
    tests = "".join(path.read_text() for path in (CHECKOUT / "tests").rglob("test_*.py"))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()
    for line in promises.splitlines():
        if line.startswith("| ") and "shown by" not in line:
            assert "`test" in line, line


def test_every_verdict() -> None:
    told = set(named(section(read("docs/troubleshooting.md"), "`up` refuses before it begins")))
    names = set()
    for module in ("checks/doctor", "lifecycle/preflight", "checks/frontdoor"):
        for node in ast.walk(ast.parse(read(f"src/dozencloud/{module}.py"))):
            if isinstance(node, ast.Call) and node.args:
                function = node.func
                called = getattr(function, "id", "") or getattr(function, "attr", "")
                first = node.args[0]
                if called == "Verdict" and isinstance(first, ast.Constant):
                    names.add(first.value)
    loops = {"tun", "namespaces", "nftables", "mirror", "index", "port …"}
    assert told == (names - {"ports"}) | loops


def test_what_the_machine_needs() -> None:
    needs = section(read("README.md"), "What it needs")
    for distribution in registry.known().values():
        for name in distribution.names():
            assert name in needs
        assert not distribution.untried or f"not tried on a real {distribution.name}" in needs
    assert f"Below {Needs().memory // 1024} GiB" in needs


# ---- dependencies -------------------------------------------------------------------------


def project() -> dict[str, list[str]]:
    data = tomllib.loads(read("pyproject.toml"))
    return {
        "cloud": data["project"]["dependencies"],
        "dev": data["dependency-groups"]["dev"],
        "build": data["build-system"]["requires"],
    }


def bare(requirements: list[str]) -> set[str]:
    return {re.split(r"[=<>~! \[]", each)[0] for each in requirements}


def launcher_packages(path: str) -> set[str]:
    words = re.findall(r'^\s*packages="([^"]+)"$', read(path), re.MULTILINE)
    return {word for line in words for word in line.split()} - {"$packages"}


DEPENDENCIES = {
    "Python packages of the cloud": lambda: bare(project()["cloud"]),
    "Building": lambda: bare(project()["build"]) | {"uv"},
    "Development and tests": lambda: bare(project()["dev"]),
    "Packages of the launcher": lambda: (
        launcher_packages("bootstrap/distributions/debian.sh")
        | launcher_packages("bootstrap/distributions/fedora.sh")
    ),
    "Debian packages of the tests": lambda: launcher_packages("tests/run"),
}


@pytest.mark.parametrize("heading", DEPENDENCIES)
def test_every_dependency_with_a_reason(heading: str) -> None:
    text = section(read("docs/dependencies.md"), heading)
    told = named(text)
    assert len(told) == len(set(told))
    assert set(told) == DEPENDENCIES[heading]()
    assert all(row[1] for row in rows(text) if row[0].strip("`") in told)
