"""dnf itself, with small packages of Fedora's names, in a root that says that it is Fedora.

Fedora's mirrors cannot be reached from where this runs: the packages are made here, and empty. What
is in the real ones is not tried by this.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from dozencloud.cloud.plan import FIRST
from dozencloud.cloud.state import State
from dozencloud.errors import Problem
from dozencloud.facts.packages import rpm_packages
from dozencloud.facts.system import parse_os_release
from dozencloud.host import machine, packages
from dozencloud.host.distributions import registry
from dozencloud.host.distributions.fedora import Fedora
from dozencloud.host.packagemanagers import dnf
from dozencloud.host.packagemanagers.dnf import Dnf
from dozencloud.services import needs
from dozencloud.tasks.graph import Step

TOOLS = ("dnf", "rpm", "rpmbuild", "createrepo_c")
pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in TOOLS),
        reason="needs the packages dnf, rpm and createrepo-c",
    ),
]

OS_RELEASE = """\
NAME="Fedora Linux"
VERSION="44 (Server Edition)"
ID=fedora
VERSION_ID=44
PRETTY_NAME="Fedora Linux 44 (Server Edition)"
"""
WANTED = Fedora("44").wanted("x86_64", needs(FIRST, time=True))
UNIT = "memcached.service"
SPEC = """\
Name: {name}
Version: 1
Release: 1
Summary: {name}, of which there is the name only
License: none
BuildArch: noarch
{more}
%description
.
{install}
%files
{files}
"""
# What %systemd_post of Fedora's packages comes to is done by the test: the root has no shell.
UNIT_TEXT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"


def make_package(top: Path, name: str, *, needs: str = "", unit: str = "", fat: int = 0) -> None:
    """Build one. unit: of which it has the file. fat: MiB of it."""
    folder = "%{buildroot}/usr/lib/systemd/system"
    commands, files = [], []
    if unit:
        commands += [f"mkdir -p {folder}", f"printf '{UNIT_TEXT}' >{folder}/{unit}"]
        files.append(f"/usr/lib/systemd/system/{unit}")
    if fat:
        commands += [
            "mkdir -p %{buildroot}/usr/share",
            f"truncate -s {fat}M %{{buildroot}}/usr/share/fat",
        ]
        files.append("/usr/share/fat")
    spec = top / f"{name}.spec"
    install = "\n".join(["%install", *commands]) if commands else ""
    more = f"Requires: {needs}" if needs else ""
    spec.write_text(SPEC.format(name=name, more=more, install=install, files="\n".join(files)))


def build(top: Path) -> None:
    words = [
        "rpmbuild",
        "-bb",
        "--quiet",
        "--define",
        f"_topdir {top}",
        *map(str, top.glob("*.spec")),
    ]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    subprocess.run(["createrepo_c", "--quiet", str(top / "RPMS")], check=True, timeout=60)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("repository")
    for name in WANTED:
        needs = {"ovn-central": "ovn", "ovn-host": "ovn"}.get(name, "")
        make_package(top, name, needs=needs, unit=UNIT if name == "memcached" else "")
    make_package(top, "ovn")
    make_package(top, "broken", needs="what-nobody-has")
    make_package(top, "fat", fat=64)
    build(top)
    return top / "RPMS"


def lock(root: Path) -> Path:
    """Debian's rpm has its database in another place."""
    database = subprocess.check_output(["rpm", "--eval", "%{_dbpath}"], text=True).strip()
    return root / database.lstrip("/") / ".rpm.lock"


def manager(root: Path, repository: str) -> Dnf:
    return Dnf(
        options=(
            *(f"--installroot={root}", "--releasever=44", "--setopt=reposdir=/none"),
            *("--nogpgcheck", f"--repofrompath=test,{repository}"),
            *("--setopt=test.retries=1", "--setopt=timeout=3"),
        ),
        rpm_options=("--root", str(root)),
        locks=(lock(root),),
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty system, and none of this machine's own records."""
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/os-release").write_text(OS_RELEASE)
    monkeypatch.setattr(machine, "RECORD", tmp_path / "machine.json")
    monkeypatch.setattr(dnf, "PRESET", folder / "run/systemd/system-preset/00-dozencloud.preset")
    return folder


@pytest.fixture
def system(root: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Fedora:
    found = registry.find(parse_os_release((root / "etc/os-release").read_text()))
    assert isinstance(found, Fedora)
    monkeypatch.setattr(Fedora, "manager", manager(root, str(repository)))
    return found


def install(system: Fedora, names: Sequence[str], folder: Path) -> str:
    """As `up` does; returns the log."""
    log = io.StringIO()
    packages.install(Step(log), tuple(names), State(folder / "state.json"), system)
    return log.getvalue()


def there(root: Path) -> set[str]:
    words = ["rpm", "--root", str(root), "-qa", "--queryformat", "%{NAME}\n"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)
    return {*done.stdout.split()}


def test_all_of_a_controller_once_and_again_and_gone(
    system: Fedora, root: Path, tmp_path: Path
) -> None:
    assert system.manager.missing(WANTED) == list(WANTED)
    log = install(system, WANTED, tmp_path)
    assert there(root) == {*WANTED, "ovn"}
    assert "--setopt=install_weak_deps=False" in log
    assert system.manager.missing((*WANTED, "no-such-package")) == ["no-such-package"]
    assert machine.packages() == list(WANTED)
    assert not dnf.PRESET.exists()
    assert rpm_packages(root).broken == ""

    assert install(system, WANTED, tmp_path) == "", "there was nothing to do"

    said: list[str] = []
    assert packages.purge(said.append, system) == list(WANTED)
    assert said == [f"{len(WANTED)} packages go"]
    assert there(root) == set(), "with what only they needed"
    assert machine.packages() == []
    assert packages.purge(said.append, system) == []


def test_a_persons_own_package_stays(system: Fedora, root: Path, tmp_path: Path) -> None:
    subprocess.run(system.manager.install(["memcached"]), check=True, capture_output=True)
    install(system, ["memcached", "fping"], tmp_path)
    assert packages.purge(lambda text: None, system) == ["fping"]
    assert there(root) == {"memcached"}


def test_what_was_cut_off_is_finished(system: Fedora, root: Path, tmp_path: Path) -> None:
    """Killed between two packages: those that are there are installed anew, then the others."""
    state = State(tmp_path / "state.json")
    state.set(packages.BEGUN, [])
    subprocess.run(system.manager.install(["fping"]), check=True, capture_output=True)
    log = install(system, ["fping", "haproxy"], tmp_path)
    assert "reinstall fping" in log
    assert there(root) == {"fping", "haproxy"}
    assert state.get(packages.BEGUN) is None


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="no systemctl here")
def test_no_unit_is_enabled_while_packages_are_installed(
    system: Fedora, root: Path, tmp_path: Path
) -> None:
    """With the real systemctl, which does just this for a package's script (systemd.preset(5))."""
    install(system, ["memcached"], tmp_path)
    presets = root / "usr/lib/systemd/system-preset"
    presets.mkdir(parents=True)
    (presets / "90-default.preset").write_text(f"enable {UNIT}\n")
    policy = system.manager.policy(system.units)
    link = root / "etc/systemd/system/multi-user.target.wants" / UNIT

    def preset() -> bool:
        words = ["systemctl", f"--root={root}", "preset", UNIT]
        subprocess.run(words, check=True, capture_output=True, timeout=30)
        return link.is_symlink()

    policy.path.parent.mkdir(parents=True, exist_ok=True)
    policy.path.write_text(policy.text)
    assert not preset()
    policy.path.unlink()
    assert preset(), "what Fedora's presets say goes for it again"


def refused(system: Fedora, names: Sequence[str], folder: Path) -> Problem:
    with pytest.raises(Problem) as caught:
        install(system, names, folder)
    assert not dnf.PRESET.exists()
    assert caught.value.mend
    return caught.value


def test_no_mirror(
    system: Fedora, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fedora, "manager", manager(root, "http://127.0.0.1:9/"))
    found = refused(system, ["fping"], tmp_path)
    assert found.what == "The mirrors of the package repositories cannot be reached."


def test_a_package_that_is_nowhere(system: Fedora, tmp_path: Path) -> None:
    found = refused(system, ["fping", "no-such-package"], tmp_path)
    assert found.what == "A package is not in the enabled repositories."


def test_what_does_not_fit(system: Fedora, tmp_path: Path) -> None:
    found = refused(system, ["broken"], tmp_path)
    assert found.what == "The package system of this machine is in a broken state."


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk(system: Fedora, root: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24M", "none", root], check=True)
    try:
        found = refused(system, ["fat"], tmp_path)
    finally:
        subprocess.run(["umount", root], check=True)
    assert found.what == "The disk is full."


HOLD = """\
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
input()
"""


def test_another_program_is_waited_for(
    system: Fedora, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(system, ["haproxy"], tmp_path)
    # A lock belongs to a process, and is none for the same one.
    held = subprocess.Popen(
        ["python3", "-c", HOLD, str(lock(root))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held.stdout
    held.stdout.readline()
    found = rpm_packages(root, (lock(root),)).lock
    assert found
    assert found.pid == held.pid
    monkeypatch.setattr(dnf, "LOCK_SECONDS", 0.3)
    with pytest.raises(Problem, match="The other installation of packages did not"):
        install(system, ["fping"], tmp_path)
    monkeypatch.setattr(dnf, "LOCK_SECONDS", 60.0)
    ending = threading.Timer(0.5, held.communicate, ["\n"])
    ending.start()
    install(system, ["fping"], tmp_path)
    ending.join()
    assert there(root) == {"fping", "haproxy"}


def test_packages_that_do_not_fit_together_are_seen(
    system: Fedora, root: Path, tmp_path: Path
) -> None:
    install(system, ["ovn-host"], tmp_path)
    words = ["rpm", "--root", str(root), "--erase", "--nodeps", "ovn"]
    subprocess.run(words, check=True, capture_output=True)
    assert "ovn is needed by" in rpm_packages(root).broken


def test_the_version_that_is_offered(system: Fedora) -> None:
    assert system.manager.offered("ovn-host").strip() == "1"
    assert system.manager.offered("no-such-package").strip() == ""
