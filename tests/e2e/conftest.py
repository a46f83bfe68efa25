"""One cloud for all end-to-end tests of a run.

It is made by the command line and destroyed at the end. DOZEN_E2E_ROOT names one that exists
instead, which then stays. Under a root of its own a cloud lives in its own network namespace:
nothing of the machine's own cloud is touched.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testcloud import PLACE, Guest, Tenant, TestCloud, new_root
from testnodes import Node
from tinyimages import Made

from dozencloud.images.tiny import direct, uefi

KEPT_LOGS = PLACE / "dozen-e2e-logs"


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest) -> Iterator[TestCloud]:
    """The cloud, complete, with the server `first`."""
    if os.geteuid():
        pytest.skip("needs root")
    if existing := os.environ.get("DOZEN_E2E_ROOT"):
        yield TestCloud(Path(existing))
        return
    made = TestCloud(new_root("dze2e"))
    whole = False
    try:
        made.dozen("up")
        yield made
        whole = not request.session.testsfailed
    finally:
        if not whole:
            shutil.rmtree(KEPT_LOGS, ignore_errors=True)
            shutil.copytree(made.root / "log", KEPT_LOGS)
            print(f"\nThe logs of the cloud: {KEPT_LOGS}")
        made.destroy()


@pytest.fixture(scope="module")
def tenant(cloud: TestCloud) -> Iterator[Callable[[str], Tenant]]:
    """Makes projects, each with a user; all that is in them goes at the end of the module."""
    made: list[Tenant] = []

    def make(name: str) -> Tenant:
        made.append(cloud.tenant(name))
        return made[-1]

    yield make
    for each in reversed(made):
        each.clear()


@pytest.fixture(scope="module")
def admin(cloud: TestCloud) -> Iterator[Tenant]:
    """The administrator's project; what a module makes in it goes at the module's end."""
    project = cloud.admin()
    yield project
    project.clear()


@pytest.fixture(scope="module")
def machine() -> Iterator[Callable[[str], Node]]:
    """Makes machines that are nothing yet; what they became is removed at the end."""
    made: list[Node] = []

    def make(name: str) -> Node:
        made.append(Node(new_root("dzn"), name))
        return made[-1]

    yield make
    for each in made:
        each.destroy()
        shutil.rmtree(each.root, ignore_errors=True)


@pytest.fixture(scope="session")
def made(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What images are made from."""
    return Made(
        tmp_path_factory.mktemp("images"),
        direct.build("aarch64", cache),
        direct.build("armv7l", cache),
        uefi.build(cache).disk,
    )


@pytest.fixture
def first(cloud: TestCloud) -> Guest:
    return cloud.first()
