"""The command: a cloud, the names that DevStack gives, and the clients' own tests against it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import explained
from testcloud import TestCloud, new_root
from world import world

HERE = Path(__file__).parent
SUITES = ("openstack/tests/functional", "openstackclient/tests/functional")
TEST_SECONDS = 600
"""For one test; servers are emulated."""


@contextmanager
def some_cloud(root: str) -> Iterator[TestCloud]:
    """The cloud of that root, which stays; or a new one."""
    if root:
        yield TestCloud(Path(root))
        return
    made = TestCloud(new_root("dzclients"))
    try:
        made.dozen("up")
        yield made
    finally:
        made.destroy()


def environment(folder: Path) -> Path:
    """The Python environment of the clients and their tests; returns its `bin`."""
    uv = os.environ["DOZEN_UV"]
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    wanted = HERE / "requirements.txt"
    sync = ("pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(wanted))
    subprocess.run([uv, *sync], check=True)
    return python.parent


def run(cloud: TestCloud, programs: Path, work: Path, words: Sequence[str]) -> Path:
    """Run the tests; returns pytest's report."""
    (packages,) = programs.parent.glob("lib/python3.*/site-packages")
    report, clouds = work / "report.xml", work / "clouds.yaml"
    command = [
        *(str(programs / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"),
        # One at a time, as upstream's tox.ini has it: they share projects.
        *("-n", "0", f"--timeout={TEST_SECONDS}", f"--junitxml={report}"),
        f"--rootdir={packages}",
        *(str(packages / word) for word in words or SUITES),
    ]
    # A file of the clients' sources, which they upload.
    (work / "CONTRIBUTING.rst").write_text("an image\n")
    with world(cloud) as made:
        clouds.touch(0o600)
        clouds.write_text(json.dumps(made))
        settings = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(work),
            "OS_CLIENT_CONFIG_FILE": str(clouds),
            "OS_TEST_TIMEOUT": str(TEST_SECONDS),
            **dict.fromkeys(("OS_LOG_CAPTURE", "OS_STDOUT_CAPTURE", "OS_STDERR_CAPTURE"), "1"),
        }
        subprocess.run(command, check=False, cwd=work, env=settings)
    return report


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", default="", help="a cloud that exists, and stays")
    arguments.add_argument("--report", type=Path, help="where to keep pytest's report")
    arguments.add_argument("tests", nargs="*", help=f"files or folders; default: {SUITES}")
    asked = arguments.parse_args()
    programs = environment(Path(os.environ["DOZEN_CLIENTS"]))
    with some_cloud(asked.root) as cloud, tempfile.TemporaryDirectory() as folder:
        report = run(cloud, programs, Path(folder), asked.tests)
        found = explained.outcomes(report)
        if asked.report:
            asked.report.write_bytes(report.read_bytes())
    for line in (said := list(explained.complaints(found, explained.left()))):
        print(line)
    counts = Counter(outcome.of for outcome in found.values())
    print(", ".join(f"{count} {of}" for of, count in sorted(counts.items())))
    return 1 if said or not found else 0


if __name__ == "__main__":
    sys.exit(main())
