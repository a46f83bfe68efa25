"""The launcher: which environment it picks, when it trusts it, and how it says what went wrong."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import runpy
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from users_kit import NOBODY

CHECKOUT = Path(__file__).resolve().parents[2]
INTERPRETER = """#!/bin/sh
printf '%s\\n' "$DOZEN_CHECKOUT" "${PYTHONPATH-unset}" "$PWD" "$@"
"""
ROOT_ONCE = "This needs root once, to make DozenCloud's environment. Run: sudo ./dozen"


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A small checkout that other users can read, in a directory with a space in its name."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        root = Path(directory) / "my checkout"
        package = root / "src/dozencloud"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (root / "uv.lock").write_text("version = 1\n")
        for name in ("pyproject.toml", "LICENSE", "NOTICE"):
            (root / name).touch()
        shutil.copy(CHECKOUT / "dozen", root)
        shutil.copytree(CHECKOUT / "bootstrap", root / "bootstrap")
        yield root


def sourced(checkout: Path, script: str, *, release: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script that knows the launcher's functions; the base directory is beside `checkout`.

    release: os-release of the system that this is; by default this machine's own.
    """
    head = 'set -eu; checkout=$1; . "$1/bootstrap/environment.sh"; '
    if release:
        (checkout / "os-release").write_text(release)
        head += 'os_release="$checkout/os-release"; '
    head += 'find_environment "$2" env; '
    base = checkout.parent / "base"
    return subprocess.run(
        ["sh", "-c", head + script, "sh", str(checkout), str(base)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def found(checkout: Path, name: str) -> str:
    """The value of one of the launcher's variables."""
    return sourced(checkout, f'echo "${name}"').stdout.strip()


def make_ready(checkout: Path) -> None:
    """Make an environment that the launcher trusts, with an interpreter that says what it got."""
    environment = Path(found(checkout, "environment"))
    (environment / "bin").mkdir(parents=True, exist_ok=True)
    (environment / "bin/python").write_text(INTERPRETER)
    (environment / "bin/python").chmod(0o755)
    (environment / ".package").write_text(found(checkout, "source_hash") + "\n")


def launch(
    launcher: Path | str,
    *arguments: str,
    base: Path,
    cwd: Path | None = None,
    plain_user: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the launcher."""
    user = NOBODY if plain_user and os.geteuid() == 0 else None
    return subprocess.run(
        [launcher, *arguments],
        cwd=cwd or "/",
        env=os.environ | {"DOZEN_ENV_DIR": str(base), "PYTHONPATH": "/elsewhere"},
        user=user,
        group=user,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_runs_the_package_with_a_clean_environment(checkout: Path) -> None:
    make_ready(checkout)
    done = launch(checkout / "dozen", "ssh", "a b", "", base=checkout.parent / "base")
    assert done.stdout.split("\n") == [
        *(str(checkout), "unset", "/"),
        *("-I", "-m", "dozencloud", "ssh", "a b", "", ""),
    ]
    assert done.returncode == 0
    assert done.stderr == ""


def test_runs_through_a_symlink_from_another_directory(checkout: Path) -> None:
    make_ready(checkout)
    link = checkout.parent / "dozen"
    link.symlink_to(checkout / "dozen")
    done = launch("./dozen", base=checkout.parent / "base", cwd=link.parent)
    assert done.stdout.splitlines()[0] == str(checkout)


def test_a_plain_user_may_use_an_environment_that_is_ready(checkout: Path) -> None:
    make_ready(checkout)
    done = launch(checkout / "dozen", "--help", base=checkout.parent / "base", plain_user=True)
    assert done.returncode == 0
    assert "--help" in done.stdout


@pytest.mark.parametrize("spoil", ["missing", "source", "lock", "stamp", "interpreter"])
def test_a_plain_user_is_told_to_ask_root(checkout: Path, spoil: str) -> None:
    make_ready(checkout)
    environment = Path(found(checkout, "environment"))
    match spoil:
        case "missing":
            shutil.rmtree(environment)
        case "source":
            (checkout / "src/dozencloud/new.py").touch()
        case "lock":
            (checkout / "uv.lock").write_text("version = 2\n")
        case "stamp":
            (environment / ".package").unlink()
        case "interpreter":
            (environment / "bin/python").unlink()
    words = ["join", "https://192.0.2.1", "--token", "dz1.x", "it's", "", "a b\x1b"]
    with_python = sourced(checkout, "can_python").returncode == 0
    if with_python:
        copy_source(checkout)
        words = words[:4]
    done = launch(checkout / "dozen", *words, base=checkout.parent / "base", plain_user=True)
    assert done.stderr.startswith(f"dozen: {ROOT_ONCE} join https://192.0.2.1 --token dz1.x")
    assert done.returncode == 3


def test_what_was_typed_is_said_as_one_would_type_it(checkout: Path) -> None:
    done = sourced(checkout, "quoted ssh 'a b' \"it's\" '' \"$(printf 'x\\033[31m')\"")
    assert done.stdout == r" ssh 'a b' 'it'\''s' '' 'x[31m'"


# ---- before there is an environment --------------------------------------------------------


def copy_source(checkout: Path) -> None:
    shutil.rmtree(checkout / "src/dozencloud")
    ignore = shutil.ignore_patterns("__pycache__", "data")
    shutil.copytree(CHECKOUT / "src/dozencloud", checkout / "src/dozencloud", ignore=ignore)


@pytest.fixture
def whole(checkout: Path) -> Path:
    """A checkout with all of the source, and no environment."""
    if sourced(checkout, "can_python").returncode:
        pytest.skip("the system has no Python that is new enough")
    copy_source(checkout)
    return checkout


@pytest.mark.parametrize("plain_user", [True, False])
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--help"], 0, "Usage: dozen [OPTIONS] COMMAND [ARGS]..."),
        ([], 2, "Usage: dozen [OPTIONS] COMMAND [ARGS]..."),
        (["join", "--help"], 0, "Make this machine a compute node of a cloud."),
        (["node", "token", "--tll", "1h"], 2, "No such option"),
        (["--version"], 0, "dozen 0."),
        (["jion"], 2, "No such command 'jion'. Did you mean 'join'?"),
        (["node", "tokn"], 2, "No such command 'tokn'."),
        (["join"], 2, "Missing argument"),
        (["--root", "/nowhere", "config"], 0, "# /nowhere/etc/cloud.toml"),
    ],
)
def test_help_and_mistakes_need_no_environment(
    whole: Path, words: list[str], status: int, said: str, plain_user: bool
) -> None:
    base = whole.parent / "base"
    done = launch(whole / "dozen", *words, base=base, plain_user=plain_user)
    assert said in done.stdout + done.stderr
    assert done.returncode == status
    assert not base.exists(), "nothing was made"
    assert not list((whole / "src").rglob("__pycache__"))


@pytest.mark.parametrize("plain_user", [True, False])
def test_doctor_needs_no_environment(whole: Path, plain_user: bool) -> None:
    """The facts need the standard library alone, and the verdicts are the same."""
    base = whole.parent / "base"
    words = ["--root", str(whole.parent / "cloud"), "doctor", "--json"]
    done = launch(whole / "dozen", *words, base=base, plain_user=plain_user)
    verdicts = {each["name"]: each for each in json.loads(done.stdout)["verdicts"]}
    assert f"environment in {base} is not there yet" in verdicts["environment"]["fact"]
    assert {"system", "memory", "disk", "kvm", "addresses", "datapath"} - {"kvm"} <= set(verdicts)
    assert not base.exists()


def test_the_wheel_is_what_the_lock_file_names() -> None:
    """The click that runs before there is an environment is the one that runs in it."""
    (wheel,) = (CHECKOUT / "bootstrap").glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    locked = tomllib.loads((CHECKOUT / "uv.lock").read_text())["package"]
    (click,) = [package for package in locked if package["name"] == "click"]
    names = {each["url"].rpartition("/")[2]: each["hash"] for each in click["wheels"]}
    assert names[wheel.name] == f"sha256:{digest}"


def test_bytecode_does_not_make_an_environment_stale(checkout: Path) -> None:
    before = found(checkout, "source_hash")
    (checkout / "src/dozencloud/__pycache__").mkdir()
    (checkout / "src/dozencloud/__pycache__/x.pyc").touch()
    assert found(checkout, "source_hash") == before


def test_a_renamed_file_makes_an_environment_stale(checkout: Path) -> None:
    before = found(checkout, "source_hash")
    (checkout / "src/dozencloud/__init__.py").rename(checkout / "src/dozencloud/other.py")
    assert found(checkout, "source_hash") != before


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("ID=debian\nVERSION_ID=12\n", 0),
        ('ID=debian\nVERSION_ID="13"\n', 0),
        ('ID=ubuntu\nVERSION_ID="24.04"\nID_LIKE=debian\n', 0),
        ("ID=fedora\nVERSION_ID=44\n", 0),
        ("ID=fedora\nVERSION_ID=45\n", 0),
        ("ID=fedora\nVERSION_ID=41\nPRETTY_NAME='Fedora Linux 41 (Forty One)'\n", 3),
        ('ID=ubuntu\nVERSION_ID="22.04"\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n', 3),
        ("ID=raspbian\nVERSION_ID=12\nID_LIKE=debian\nPRETTY_NAME='Raspbian GNU/Linux 12'\n", 3),
        ('ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian GNU/Linux 11"\n', 3),
        ("ID=debian\nPRETTY_NAME='Debian GNU/Linux forky/sid'\n", 3),
        ("ID=arch\nPRETTY_NAME='Arch Linux'\n", 3),
    ],
)
def test_says_which_system_it_is_not_made_for(checkout: Path, release: str, status: int) -> None:
    done = sourced(checkout, "check_system", release=release)
    assert done.returncode == status
    if status:
        name = release.strip().split("PRETTY_NAME=")[1].strip("\"'")
        assert done.stderr == (
            f"dozen: This system is {name}; DozenCloud is made for Debian 12 and 13, Fedora 44 and"
            " 45 (not tried), Ubuntu 24.04. To try all the same: DOZEN_UNSUPPORTED=1.\n"
        )
        anyway = sourced(checkout, "DOZEN_UNSUPPORTED=1; check_system", release=release)
        assert anyway.returncode == 0


FEDORA = "ID=fedora\nVERSION_ID=44\nPRETTY_NAME='Fedora Linux 44'\n"


@pytest.mark.parametrize(
    ("release", "python", "command"),
    [
        ("ID=debian\nVERSION_ID=12\n", "/usr/bin/python3", "apt-get install"),
        ("ID=ubuntu\nVERSION_ID=24.04\n", "/usr/bin/python3", "apt-get install"),
        (FEDORA, "/usr/bin/python3.13", "dnf install"),
        ("ID=rocky\nVERSION_ID=10\nID_LIKE='rhel fedora'\n", "/usr/bin/python3.13", "dnf install"),
        ("ID=arch\n", "/usr/bin/python3", "apt-get install"),
    ],
)
def test_what_each_distribution_has(
    checkout: Path, release: str, python: str, command: str
) -> None:
    done = sourced(checkout, 'echo "$python $install_command"', release=release)
    assert done.stdout.strip() == f"{python} {command}"


def test_an_environment_is_named_after_what_is_compiled_for_it(checkout: Path) -> None:
    def name() -> str:
        return sourced(checkout, 'echo "$environment"', release=FEDORA).stdout

    before = name()
    assert before != sourced(checkout, 'echo "$environment"').stdout
    (checkout / "bootstrap/libvirt.txt").write_text("libvirt-python==0\n")
    assert name() != before


# rpm and dnf themselves are tried in tests/functional/test_dnf.py; here, which words they get.
RPM = """
id() { echo 0; }
rpm() { grep -qx "$3" "$base/installed"; }
dnf() {
    echo "dnf $*"
    tries=$((tries + 1))
    [ "$tries$busy" != 11 ] || { echo "Failed to obtain rpm transaction lock." && return 1; }
}
sleep() { :; }
tries=0 log=$base/log
install_packages 3>/dev/null >>"$log" || { cat "$log"; exit 1; }
cat "$log"
"""
DNF = "dnf --assumeyes --setopt=install_weak_deps=False"


@pytest.mark.parametrize("busy", [0, 1])
def test_fedora_gets_what_it_lacks(checkout: Path, busy: int) -> None:
    base = checkout.parent / "base"
    base.mkdir()
    (base / "installed").write_text("ca-certificates\ngcc\n")
    done = sourced(checkout, f"busy={busy}; {RPM}", release=FEDORA)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("dnf")]
    wanted = "python3.13 python-pip-wheel python3.13-devel libvirt-devel"
    assert said == [f"{DNF} install {wanted}"] * (busy + 1)
    assert not (base / "apt-started").exists()


def test_what_was_cut_off_on_fedora_is_installed_anew(checkout: Path) -> None:
    base = checkout.parent / "base"
    base.mkdir()
    (base / "apt-started").touch()
    names = "python3.13 python-pip-wheel ca-certificates python3.13-devel libvirt-devel"
    (base / "installed").write_text("\n".join(names.split()))
    done = sourced(checkout, f"busy=0; {RPM}", release=FEDORA)
    said = [line for line in done.stdout.splitlines() if line.startswith("dnf")]
    assert said == [f"{DNF} reinstall {names}", f"{DNF} install gcc"]
    assert not (base / "apt-started").exists()


def test_fedora_needs_root_for_packages(checkout: Path) -> None:
    script = 'id() { echo 1; }; rpm() { return 1; }; packages="a b"; install_packages'
    (checkout.parent / "base").mkdir()
    done = sourced(checkout, script, release=FEDORA)
    assert done.stdout == "needs root for: dnf install a b\n"
    assert done.returncode == 1


LOCKED = """\
E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 496 (unattended-upgr)
E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), …
"""
NO_NAME_SERVER = """\
Err:1 http://deb.example/debian bookworm InRelease
  Temporary failure resolving 'deb.example'
W: Some index files failed to download. They have been ignored, or old ones used instead.
E: Unable to locate package python3-pip-whl
"""
PIP_OFFLINE = """\
from https://index.example/simple
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip._vendor.\
urllib3.connection.HTTPSConnection object at 0x7f771b8bfed0>: Failed to establish a new \
connection: [Errno -3] Temporary failure in name resolution')': /simple/uv/
ERROR: No matching distribution found for uv==0.13.9
"""
REPAIRED = """\
E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.
Setting up libexpat1:amd64 (2.5.0-1+deb12u2) ...
Reading package lists...
Building dependency tree...
"""
DNF_OFFLINE = """\
Errors during downloading metadata for repository 'fedora':
  - Curl error (6): Couldn't resolve host name for https://mirrors.example/metalink?repo=fedora-44
Error: Failed to download metadata for repo 'fedora': Cannot prepare internal mirrorlist
"""
UV_OFFLINE = """\
error: Request failed after 3 retries
  Caused by: Failed to fetch: `https://files.example/packages/8d/c9/alembic-1.20.1-py3-none-any.whl`
  Caused by: error sending request for url (https://files.example/packages/8d/c9/alembic.whl)
"""


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            "Err http://x.example/\nE: dpkg was interrupted, you must manually run 'dpkg ...'\n",
            "An earlier installation of packages was interrupted. Run: sudo dpkg --configure -a",
        ),
        (REPAIRED + "E: Unable to fetch x; No space left on device\n", "The disk is full."),
        (LOCKED, "Another program is installing packages: process 496 (unattended-upgr). Wait"),
        (LOCKED + NO_NAME_SERVER, "deb.example cannot be reached. Is the network up? Behind a"),
        (PIP_OFFLINE, "index.example cannot be reached."),
        (UV_OFFLINE, "files.example cannot be reached."),
        (DNF_OFFLINE, "mirrors.example cannot be reached."),
        (
            "Error Summary\nAt least 722MB more space needed on the / filesystem.\n",
            "The disk is full.",
        ),
        ("needs root for: dnf install gcc\n", "This needs root for: dnf install gcc."),
        ("error: write failed: No space left on device (os error 28)\n", "The disk is full."),
        (
            "dpkg: error: /usr/lib/x: Read-only file system\n",
            "A file system is read-only: dpkg: error: /usr/lib/x: Read-only file system. Make it",
        ),
        ("needs root for: apt-get install python3\n", "This needs root for: apt-get install"),
        ("error: the moon is full\n", "The last step failed, for the reason above."),
    ],
)
def test_explains_a_failed_step_in_one_sentence(checkout: Path, output: str, sentence: str) -> None:
    (checkout / "output").write_text(output)
    done = sourced(checkout, 'log="$checkout/output"; explain')
    assert done.returncode in {1, 3}
    assert done.stderr.splitlines()[-1].startswith(f"dozen: {sentence}")


def test_an_environment_that_cannot_be_written_is_said_before_work_starts(checkout: Path) -> None:
    (checkout.parent / "base").touch()
    done = sourced(checkout, "check_system() { :; }; make_environment")
    assert "base cannot be written" in done.stderr
    assert done.returncode == 3


def test_a_full_disk_is_said_before_work_starts(checkout: Path) -> None:
    done = sourced(checkout, "check_system() { :; }; space_needed=99999999; make_environment")
    assert "MiB free, and the environment needs 99999999." in done.stderr
    assert done.returncode == 3


# A dpkg that is killed just so cannot be had at will.
APT = """
id() { echo 0; }
dpkg() { [ "$1" = --configure ] || { echo amd64 && return; }; echo configured; false; }
apt() {
    [ "$1" != update ] || { echo updated && return; }
    tries=$((tries + 1))
    echo "$@"
    case $tries in
    1) echo "E: dpkg was interrupted, you must manually run ..." && return 1 ;;
    2) echo "E: Unable to locate package no-such-package" && return 1 ;;
    esac
}
packages=no-such-package tries=0 log=$base/log
install_packages >>"$log" || { cat "$log"; exit 1; }
cat "$log"
"""


def test_what_it_began_itself_is_repaired_as_often_as_it_takes(checkout: Path) -> None:
    begun = checkout.parent / "base/apt-started"
    begun.parent.mkdir()
    begun.touch()
    done = sourced(checkout, APT)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if not line.startswith("E: ")]
    install = "install --yes --no-install-recommends --fix-broken no-such-package"
    assert said[-5:] == [install, "configured", install, "updated", install]
    assert not begun.exists()


@pytest.mark.parametrize(
    ("status", "begun", "there"),
    [("unpacked", True, False), ("installed", True, True), ("unpacked", False, True)],
)
def test_half_a_python_is_none(checkout: Path, status: str, begun: bool, there: bool) -> None:
    """Its program comes with one package, and half of its library with another."""
    if begun:
        base = checkout.parent / "base"
        base.mkdir()
        (base / "apt-started").touch()
    query = checkout.parent / "bin/dpkg-query"
    query.parent.mkdir()
    query.write_text(f"#!/bin/sh\necho {status}\n")
    query.chmod(0o755)
    script = f'PATH="{query.parent}:$PATH" early_python=/bin/true; can_python'
    assert (sourced(checkout, script).returncode == 0) is there


def test_what_someone_else_began_is_theirs(checkout: Path) -> None:
    base = checkout.parent / "base"
    base.mkdir()
    for _ in range(2):
        done = sourced(checkout, APT)
        assert done.returncode == 1
        assert "configured" not in done.stdout
        assert not (base / "apt-started").exists()


STEPS = """
check_system() { :; }
install_packages() { :; }
install_uv() { :; }
install_dependencies() {
    echo dependencies >>"$base/steps"
    mkdir -p "$environment/bin"; ln -s /bin/true "$environment/bin/python"
    echo "$kind" >"$environment/.dependencies"
}
"""


def test_makes_only_what_is_missing(checkout: Path) -> None:
    steps = checkout.parent / "base/steps"
    assert sourced(checkout, STEPS + "make_environment; find_environment $2 env; is_ready").stderr
    assert steps.read_text() == "dependencies\n"
    (checkout / "src/dozencloud/new.py").touch()
    again = sourced(checkout, STEPS + "! is_ready; make_environment; is_ready")
    assert again.returncode == 0
    assert "DozenCloud from" in again.stderr
    assert steps.read_text() == "dependencies\n"


def test_what_was_interrupted_is_not_trusted(checkout: Path) -> None:
    killed = 'install_package() { rm -f "$environment/.package"; kill -9 $$; }; make_environment'
    assert sourced(checkout, STEPS + killed).returncode == -9
    assert sourced(checkout, "is_ready").returncode != 0


def test_its_locks_are_for_their_owner_only(checkout: Path) -> None:
    """Whoever can open a lock can hold it, and every dozen would wait for him."""
    base = checkout.parent / "base"
    (base / "cache").mkdir(parents=True)
    (base / "lock").touch(0o644)
    uvs = 'umask 0; : >"$base/cache/.lock"; : >"$environment/.lock"'
    script = STEPS.replace(
        "    echo dependencies", f'    mkdir -p "$environment"; {uvs}\n    echo dependencies'
    )
    assert sourced(checkout, script + "make_environment; close_locks").returncode == 0
    locks = [base / "lock", *base.glob("*/.lock")]
    assert len(locks) == 3
    assert {path.stat().st_mode & 0o777 for path in locks} == {0o600}
    assert (base / "cache").stat().st_mode & 0o777 == 0o700


def install(checkout: Path, site: Path) -> importlib.metadata.Distribution:
    """Install a checkout's package as the launcher does."""
    runpy.run_path(str(CHECKOUT / "bootstrap/package.py"))["install"](checkout, site)
    (info,) = site.glob("dozencloud-*.dist-info")
    return importlib.metadata.Distribution.at(info)


def test_installs_what_a_wheel_would_hold(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "nova/virt").mkdir(parents=True)
    (site / "nova/virt/driver.py").touch()
    source = tmp_path / "checkout/src"
    for name in ("dozencloud/a/b.py", "dozencloud/data.sql", "nova/virt/dozencloud/x.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    for name in ("dozencloud", "dozencloud/a", "nova/virt/dozencloud"):
        (source / name / "__init__.py").touch()
    for name in ("pyproject.toml", "LICENSE", "NOTICE"):
        shutil.copy(CHECKOUT / name, tmp_path / "checkout")

    installed = install(tmp_path / "checkout", site)
    assert (site / "dozencloud/a/b.py").read_text() == "dozencloud/a/b.py"
    assert (site / "dozencloud/data.sql").exists()
    assert (site / "nova/virt/dozencloud/x.py").exists()
    assert installed.metadata["Name"] == "dozencloud"
    assert installed.metadata["License-Expression"] == "Apache-2.0"
    for name in installed.metadata.get_all("License-File") or ():
        assert installed.read_text(f"licenses/{name}") == (CHECKOUT / name).read_text()
    assert installed.read_text("licenses/NOTICE")
    assert ("dozen", "dozencloud.cli:main") in {(e.name, e.value) for e in installed.entry_points}
    assert installed.files
    assert all((site / file).exists() for file in installed.files)

    shutil.rmtree(source / "nova")
    (source / "dozencloud/a/b.py").unlink()
    install(tmp_path / "checkout", site)
    assert not (site / "dozencloud/a/b.py").exists()
    assert sorted(path.name for path in (site / "nova/virt").iterdir()) == ["driver.py"]
