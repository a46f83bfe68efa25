"""The process that looks into an image: what it answers, and what it cannot do."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import diskimages as made
import pytest

from dozencloud.images.inspection import cage
from dozencloud.images.inspection.confine import extract_file, inspect_file, unpack_file
from dozencloud.images.inspection.model import Format
from dozencloud.images.inspection.tree import BadImage

pytestmark = pytest.mark.functional

SOURCE = Path(cage.__file__).parents[3]
ATTEMPTS = {
    "read a file": "open('/etc/passwd')",
    "list a folder": "os.listdir('/')",
    "write a file": "open('/tmp/escaped', 'w')",
    "make a folder": "os.mkdir('/escaped')",
    "open a socket": "socket.socket()",
    "reach a local socket": "socket.socket(socket.AF_UNIX).connect('/run/systemd/notify')",
    "fork": "os.fork()",
    "start a thread": "threading.Thread(target=print).start()",
    "run a program": "os.execv('/bin/true', ['true'])",
    "watch its parent": "libc('ptrace', 16, os.getppid(), 0, 0)",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "become root": "os.setuid(0)",
    "mount": "libc('mount', b'none', b'/', b'tmpfs', 0, 0)",
    "take 2 GiB": "len(bytearray(2 << 30)) or 1",
    "write a big file": "os.pwrite(scratch, b'x', 17 << 30)",
    "open many files": "[os.dup(0) for _ in range(100)]",
    "raise a limit": "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
}
SCRIPT = """
import ctypes, os, resource, socket, sys, threading
sys.path.insert(0, {source!r})
from dozencloud.images.inspection import cage
image = open({image!r}, "rb")
scratch = os.open({folder!r}, os.O_TMPFILE | os.O_RDWR)
def libc(name, *arguments):
    if getattr(cage._libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
    return True
{before}
cage.confine(5)
assert image.read(2) and os.pwrite(scratch, b"x", 0) == 1
try:
    {attempt}
except (OSError, MemoryError, RuntimeError, ValueError) as error:
    print("refused", type(error).__name__)
else:
    print("ALLOWED")
"""
UNPRIVILEGED = "os.setgroups([]); os.setgid(12345); os.setuid(12345)"
WALLS = {
    "all": "",
    "without the list of calls": "cage._forbid_calls = lambda: None",
    "without the empty root": "cage._leave_files = lambda: None",
    "as a user": UNPRIVILEGED,
}


def attempt(code: str, before: str = "") -> str:
    script = SCRIPT.format(
        source=str(SOURCE),
        image="/etc/passwd",
        folder="/tmp",  # noqa: S108
        attempt=code,
        before=before,
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=30
    )
    assert done.stdout, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_cage_refuses(code: str) -> None:
    assert attempt(code).startswith("refused")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to take walls away")
@pytest.mark.parametrize("before", WALLS.values(), ids=WALLS.keys())
@pytest.mark.parametrize(
    "code",
    [
        ATTEMPTS[name]
        for name in ("read a file", "write a file", "fork", "take 2 GiB", "become root")
    ],
)
def test_no_wall_stands_alone(code: str, before: str) -> None:
    assert attempt(code, before).startswith("refused")


def test_processor_time_ends() -> None:
    script = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
    script += "from dozencloud.images.inspection import cage\ncage.confine(1)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-I", "-c", script], timeout=30)
    assert done.returncode == -24  # SIGXCPU


@pytest.mark.parametrize("kind", ["raw", "qcow2", "vmdk", "vhdx"])
def test_inspect(kind: str) -> None:
    path = made.converted(kind)
    found = inspect_file(path)
    assert (found.format, found.virtual_size, found.esp) == (Format(kind), 48 * made.MIB, 1)
    assert found.size == path.stat().st_size
    assert [p.filesystem for p in found.partitions] == ["vfat", "ext4"]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: made.ext("ext2"), "ext2"),
        (lambda: made.fat(32), "vfat"),
        (made.xfs, "xfs"),
        (made.btrfs, "btrfs"),
        *((partial(made.squashfs, each), "") for each in ("gzip", "xz", "zstd", "lzo", "lz4")),
        (lambda: made.tar("xz"), ""),
    ],
)
def test_every_reader_works_in_the_cage(make: Callable[[], Path], kind: str) -> None:
    """None imports or opens anything when it is too late."""
    found = inspect_file(make())
    assert [p.filesystem for p in found.partitions] == ([kind] if kind else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become someone else")
def test_inspect_as_a_user() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
from dozencloud.images.inspection.confine import inspect_file
print(inspect_file(0).format)
"""
    with made.disk().open("rb") as image:
        done = subprocess.run(
            [sys.executable, "-I", "-c", script], stdin=image, capture_output=True, user=12345
        )
    assert done.stdout == b"raw\n", done.stderr


def test_inspect_behind_a_descriptor_leaves_its_offset() -> None:
    with made.disk().open("rb") as file:
        file.seek(100)
        assert inspect_file(file.fileno()).format is Format.RAW
        assert file.tell() == 100


def test_memory_stays_small() -> None:
    script = f"""
import resource, sys
from pathlib import Path
sys.path.insert(0, {str(SOURCE)!r})
from dozencloud.images.inspection.confine import inspect_file
inspect_file(Path({str(made.converted("qcow2", "-c"))!r}))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
    kib = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, check=True)
    assert int(kib.stdout) < 200 << 10


def test_extract_and_unpack(tmp_path: Path) -> None:
    made.need("xz")
    target = tmp_path / "kernel"
    extract_file(made.converted("qcow2"), 2, "vmlinuz", target)
    assert target.read_bytes() == made.KERNEL
    with pytest.raises(BadImage, match="no file /nothing"):
        extract_file(made.disk(), 2, "nothing", target)
    with pytest.raises(BadImage, match="no file system in partition 7"):
        extract_file(made.disk(), 7, "vmlinuz", target)
    with pytest.raises(BadImage, match="no file /etc/shadow"):
        extract_file(made.disk(), 2, "etc/shadow", target)
    made.run("xz", "-k", "-f", made.disk())
    packed = made.disk().with_name("disk.raw.xz")
    assert b"".join(unpack_file(packed)) == made.disk().read_bytes()
    assert b"".join(unpack_file(made.ext("ext4"))) == made.ext("ext4").read_bytes()


def test_unpacking_may_be_given_up(tmp_path: Path) -> None:
    pieces = unpack_file(made.disk())
    assert next(pieces)
    pieces.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing", "cannot be opened: No such file"),
        ("pipe", "neither a file nor a block device"),
        ("folder", "neither a file nor a block device"),
        ("empty", "The file is empty"),
    ],
)
def test_what_is_not_an_image(name: str, sentence: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    with pytest.raises(BadImage, match=sentence):
        inspect_file(tmp_path / name)


def test_time_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    start = gzip.compress(b"x".ljust(257, b"\0") + b"ustar")
    path.write_bytes(start + gzip.compress(bytes(64 << 20)) * 200)
    with pytest.raises(BadImage, match=r"longer to read than the 1 seconds"):
        inspect_file(path, seconds=1)
