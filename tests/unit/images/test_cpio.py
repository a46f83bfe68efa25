"""The initramfs writer, read back by a parser written from the format's description."""

from __future__ import annotations

import io
import stat

import pytest

from dozencloud.images.formats import cpio


def read_back(data: bytes) -> dict[str, tuple[dict[str, int], bytes]]:
    """Every record up to the trailer, as `cpio -t -v` would see it."""
    fields = ["inode", "mode", "uid", "gid", "links", "mtime", "size", "major", "minor"]
    fields += ["rmajor", "rminor", "namesize", "check"]
    found: dict[str, tuple[dict[str, int], bytes]] = {}
    at = 0
    while True:
        assert at % 4 == 0
        assert data[at : at + 6] == b"070701"
        raw = data[at + 6 : at + 110].decode()
        values = {f: int(raw[i * 8 : i * 8 + 8], 16) for i, f in enumerate(fields)}
        name = data[at + 110 : at + 110 + values["namesize"] - 1].decode()
        start = (at + 110 + values["namesize"] + 3) & ~3
        content = data[start : start + values["size"]]
        at = (start + values["size"] + 3) & ~3
        if name == "TRAILER!!!":
            assert at == len(data)
            return found
        found[name] = (values, content)


def written(*entries: cpio.Entry) -> bytes:
    out = io.BytesIO()
    cpio.write(out, entries)
    return out.getvalue()


def test_every_kind_of_entry_reads_back() -> None:
    found = read_back(
        written(
            cpio.file("etc/issue", b"hello", 0o640, uid=7, gid=8),
            cpio.file("empty", b""),
            cpio.symlink("init", "usr/bin/busybox"),
            cpio.directory("root", 0o700),
            cpio.character_device("dev/console", 5, 1),
        )
    )
    issue, content = found["etc/issue"]
    assert content == b"hello"
    assert (issue["mode"], issue["uid"], issue["gid"]) == (stat.S_IFREG | 0o640, 7, 8)
    assert found["empty"][1] == b""
    assert found["init"][0]["mode"] == stat.S_IFLNK | 0o777
    assert found["init"][1] == b"usr/bin/busybox"
    assert found["root"][0]["mode"] == stat.S_IFDIR | 0o700
    console = found["dev/console"][0]
    assert stat.S_ISCHR(console["mode"])
    assert (console["rmajor"], console["rminor"]) == (5, 1)


@pytest.mark.parametrize("size", range(6))
@pytest.mark.parametrize("name", ["a", "ab", "abc", "abcd"])
def test_records_are_aligned_whatever_the_lengths(name: str, size: int) -> None:
    found = read_back(written(cpio.file(name, b"x" * size), cpio.file("z", b"end")))
    assert found[name][1] == b"x" * size
    assert found["z"][1] == b"end"


def test_parents_come_first_and_are_made_when_missing() -> None:
    names = list(read_back(written(cpio.file("usr/lib/x/y", b""), cpio.directory(".", 0o755))))
    assert names == [".", "usr", "usr/lib", "usr/lib/x", "usr/lib/x/y"]


def test_the_same_tree_gives_the_same_bytes_in_any_order() -> None:
    entries = [cpio.file(f"d/{n}", bytes([n])) for n in range(20)]
    assert written(*entries) == written(*reversed(entries))


def test_inode_numbers_differ_so_that_nothing_becomes_a_hard_link() -> None:
    found = read_back(written(*(cpio.file(str(n), b"") for n in range(9))))
    assert len({values["inode"] for values, _ in found.values()}) == 9


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a//b", "a/"])
def test_a_name_that_leaves_the_tree_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="plain relative path"):
        written(cpio.file(name, b""))


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        written(cpio.file("a", b"1"), cpio.file("a", b"2"))
