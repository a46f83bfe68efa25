"""libvirt's module for Python where no package has it: compiled as the launcher does on Fedora."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(
        not (shutil.which("gcc") and Path("/usr/include/libvirt/libvirt.h").exists()),
        reason="needs gcc and libvirt-dev",
    ),
]
FEDORA = "ID=fedora\nVERSION_ID=44\n"
COMPILE = """
set -eu
checkout=$1 python=$4
. "$checkout/bootstrap/environment.sh"
os_release=$2/os-release
find_environment "$2/base" env
uv=$3 environment=$2/environment
"$uv" venv --quiet --python "$4" "$environment"
export UV_DEFAULT_INDEX=$(index_url)
"$uv" pip install --quiet --python "$environment/bin/python" "setuptools==$5"
complete_environment
"""


def test_it_is_compiled_against_this_machines_libvirt(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text(FEDORA)
    uv = next(Path(sys.prefix).parent.glob("uv-*/bin/uv"))
    words = [CHECKOUT, tmp_path, uv, sys.executable, version("setuptools")]
    done = subprocess.run(
        ["sh", "-c", COMPILE, "sh", *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    look = "import libvirt; print(libvirt.__file__, libvirt.getVersion() > 0)"
    python = tmp_path / "environment/bin/python"
    said = subprocess.check_output([python, "-I", "-c", look], text=True)
    assert said.split()[0].startswith(str(tmp_path))
    assert said.split()[1] == "True"
