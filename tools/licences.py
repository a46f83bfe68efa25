"""Which licences the packages of uv.lock have, and whether they may come in (licences.toml)."""

from __future__ import annotations

import re
import sysconfig
import tomllib
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path
from typing import cast

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[1]
POLICY = Path(__file__).with_name("licences.toml")

_WORDS = {
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
}
"""How packages of before SPDX say it in the field License."""
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",  # 1.1 is of before there was PyPI
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""Those that mean one licence: "BSD License" may be any of several."""
_NO_LICENCE = {"OSI Approved", "DFSG approved"}
"""Classifiers that tell something about a licence, and not which one."""


@dataclass(frozen=True)
class Policy:
    """licences.toml, with the names of packages as PyPI compares them."""

    permissive: Set[str]
    copyleft: Set[str]
    accepted: Set[str] = field(default_factory=set)
    stated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """declared: what its metadata says, as an SPDX expression; empty if that is not clear; None
    if the package is not installed here."""

    name: str
    version: str
    declared: str | None = None


def load(path: Path = POLICY) -> Policy:
    """Read licences.toml."""
    text = tomllib.loads(path.read_text())
    stated = {
        str(canonicalize_name(name)): each["licence"] for name, each in text["stated"].items()
    }
    accepted = {canonicalize_name(name) for name in text["accepted"]}
    return Policy(set(text["permissive"]), set(text["copyleft"]), accepted, stated)


def locked(lock: Path, installed: Mapping[str, Message]) -> list[Package]:
    """The packages of a lock file, with what the installed ones say."""
    found = []
    for each in tomllib.loads(lock.read_text())["package"]:
        if "editable" in each["source"] or "virtual" in each["source"]:
            continue  # this project
        metadata = installed.get(canonicalize_name(each["name"]))
        here = metadata is not None and metadata["Version"] == each["version"]
        told = declared(metadata) if metadata is not None and here else None
        found.append(Package(canonicalize_name(each["name"]), each["version"], told))
    return found


def installed_in(*folders: Path) -> dict[str, Message]:
    """Metadata of what is installed in the folders: in this environment, if none is given."""
    places = [str(each) for each in folders] or [sysconfig.get_path("purelib")]
    return {
        canonicalize_name(each.metadata["Name"]): cast(Message, each.metadata)
        for each in distributions(path=places)
    }


def declared(metadata: Message) -> str:
    """The licence that a package's metadata tells, as an SPDX expression; empty if not clearly."""
    for said in (metadata["License-Expression"], metadata["License"]):
        licence = _spdx(_WORDS.get(said, said)) if said else ""
        if licence:
            return licence
    classes = {
        each.rpartition(" :: ")[2]
        for each in metadata.get_all("Classifier", [])
        if each.startswith("License :: ")
    } - _NO_LICENCE
    return _CLASSIFIERS.get(classes.pop(), "") if len(classes) == 1 else ""


def _spdx(text: str) -> str:
    try:
        return str(canonicalize_license_expression(text.strip()))
    except InvalidLicenseExpression:
        return ""


def licence(package: Package, policy: Policy) -> str:
    """The package's licence; empty if nobody knows."""
    return policy.stated.get(package.name) or package.declared or ""


def allowed(expression: str, among: Set[str]) -> bool:
    """Whether somebody who has agreed to these licences may use what is under the expression."""
    tokens = re.findall(r"[()]|[^\s()]+", expression)

    def either() -> bool:
        good = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            good = both() or good
        return good

    def both() -> bool:
        good = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            good = one() and good
        return good

    def one() -> bool:
        word = tokens.pop(0)
        if word == "(":
            good = either()
            tokens.pop(0)
            return good
        if tokens and tokens[0] == "WITH":
            word = f"{word} WITH {tokens[1]}"
            del tokens[:2]
        return word in among

    return either()


def complaints(packages: list[Package], policy: Policy) -> Iterator[str]:
    """A sentence, with what to do, for each package whose licence nobody has judged."""
    for package in packages:
        name, found = package.name, licence(package, policy)
        if not found:
            why = "is not installed here" if package.declared is None else "does not say it clearly"
            yield (
                f"{name} {package.version}: its licence is not known, since it {why}. Read its "
                f"LICENSE file, and write it down in tools/licences.toml as [stated.{name}]."
            )
        elif package.declared and package.declared != found:
            yield (
                f"{name} {package.version} says that its licence is {package.declared}, and "
                f"tools/licences.toml says {found}. Read its LICENSE file, and mend the line."
            )
        elif not allowed(found, policy.permissive | policy.copyleft):
            yield (
                f"{name} {package.version} has the licence {found}, which nobody has judged. Do "
                "without the package, or add the licence to [permissive] or [copyleft] in "
                "tools/licences.toml."
            )
        elif not allowed(found, policy.permissive) and name not in policy.accepted:
            yield (
                f"{name} {package.version} is under {found}, which asks for source. Do without the "
                "package, or say in [accepted] of tools/licences.toml why it may be here, and in "
                "docs/licences.md what that means."
            )
    gone = (policy.accepted | set(policy.stated)) - {each.name for each in packages}
    for name in sorted(gone):
        yield f"{name} is not in uv.lock any more. Take it out of tools/licences.toml."
