"""The documentation says what the code does: commands, settings, users, packages, links."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import pytest
from pages_kit import CHECKOUT, read, rows, section

from dozencloud.checks.doctor import Needs
from dozencloud.cli import cli
from dozencloud.cloud import folders
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Node, Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.settings import Settings
from dozencloud.errors import Exit
from dozencloud.facts import gather
from dozencloud.facts.system import SUPPORTED
from dozencloud.host import packages
from dozencloud.lifecycle.bringup import Bringup
from dozencloud.services import services

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


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    root = tmp_path_factory.mktemp("c")
    node = Node("node", "chassis", "qemu", "netdev", "x86_64", kvm_present=True)
    return Plan(Cloud(root), node, Secrets(root / "secrets.json"), Path(sys.prefix))


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


@pytest.mark.parametrize("name", cli.commands)
def test_each_command_has_its_section_with_its_options(name: str) -> None:
    text = section(read("docs/operations.md"), f"dozen {name}")
    told = {word for cell in named(text) for word in cell.split() if word.startswith("-")}
    assert told == options(cli.commands[name])


def test_no_section_for_a_command_that_is_not_there() -> None:
    headings = re.findall(r"^### dozen (\w+)$", read("docs/operations.md"), re.MULTILINE)
    assert headings == list(cli.commands)


def test_options_that_stand_before_the_command() -> None:
    head = section(read("docs/operations.md"), "Commands").partition("###")[0]
    told = {word for cell in named(head) for word in cell.split() if word.startswith("-")}
    assert told == {*options(cli), "-h", "--help"}


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


def test_exit_statuses() -> None:
    told = rows(section(read("docs/operations.md"), "Exit statuses"))
    assert [(row[0], row[1]) for row in told] == [(str(int(e)), e.name) for e in Exit]


# ---- settings -----------------------------------------------------------------------------


def as_toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    return str(value).lower() if isinstance(value, bool | int) else f'"{value}"'


def settings() -> dict[str, dict[str, Field[Any]]]:
    """Section -> setting -> its field."""
    sections: dict[str, Any] = {part.name: part.default for part in fields(Settings)}
    return {name: {f.name: f for f in fields(default)} for name, default in sections.items()}


def test_every_setting_with_its_default() -> None:
    known = {
        f"{name}.{key}": as_toml(field.default)
        for name, keys in settings().items()
        for key, field in keys.items()
    }
    text = section(read("docs/operations.md"), "Settings").partition("These variables")[0]
    assert {row[0].strip("`"): row[1].strip("`") for row in rows(text)} == known


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


def test_users_of_all_services(plan: Plan) -> None:
    told = rows(section(read("docs/security.md"), "Who runs as what"))
    assert [(row[0].strip("`"), row[1]) for row in told] == [
        (service.name, service.user) for service in services(plan)
    ]
    assert all(row[2] for row in told if row[1] == "root"), "root needs a reason"


def test_every_promise_names_a_test_that_is_there() -> None:
    promises = section(read("docs/security.md"), "What is promised")
    named = set(re.findall(r"`(test_\w+)`", promises))
    tests = "".join(path.read_text() for path in (CHECKOUT / "tests").rglob("test_*.py"))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()
    for line in promises.splitlines():
        if line.startswith("| ") and "shown by" not in line:
            assert "`test" in line, line


def test_every_task(plan: Plan) -> None:
    own = {service.name for service in services(plan)}
    tasks = {task.name for task in Bringup(plan, gather()).tasks()}
    told = set(named(section(read("docs/architecture.md"), "Tasks")))
    assert told == tasks - own


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
    for system, version in SUPPORTED:
        assert f"{system.capitalize()} {version}" in needs
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
    "Debian packages that `up` installs": lambda: {
        *packages.COMMON,
        *packages.CONTROL,
        packages.TIME,
        *(name for names in packages.BY_MACHINE.values() for name in names),
        *(name for names in packages.BY_DISTRIBUTION.values() for name in names),
    },
    "Debian packages of the launcher": lambda: launcher_packages("bootstrap/environment.sh"),
    "Debian packages of the tests": lambda: launcher_packages("tests/run"),
}


@pytest.mark.parametrize("heading", DEPENDENCIES)
def test_every_dependency_with_a_reason(heading: str) -> None:
    text = section(read("docs/dependencies.md"), heading)
    told = named(text)
    assert len(told) == len(set(told))
    assert set(told) == DEPENDENCIES[heading]()
    assert all(row[1] for row in rows(text) if row[0].strip("`") in told)


def test_what_everybody_may_read() -> None:
    listed = rows(section(read("docs/operations.md"), "Files and folders"))
    told = {row[0].strip("`"): row[1] for row in listed if row[0].strip("`") != row[0]}
    for path, why in folders.readable(Cloud()).items():
        assert told[str(path)] == why
