"""Images made by the real tools, read; and images made to do harm."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import diskimages as made
import pytest

from dozencloud.images.inspection import filesystems, streams
from dozencloud.images.inspection.formats import Opened, open_image
from dozencloud.images.inspection.model import Compression, Format
from dozencloud.images.inspection.streams import Scratch
from dozencloud.images.inspection.tree import BadImage, Tree
from dozencloud.images.inspection.volumes import Disk, read_disk

pytestmark = pytest.mark.functional


def opened(path: Path, patches: tuple[tuple[int, bytes], ...] = (), size: int = 0) -> Opened:
    size = size or path.stat().st_size
    return open_image(made.Patched(path, patches, size), size, Scratch(folder=made.folder()))


def disk_of(path: Path, patches: tuple[tuple[int, bytes], ...] = ()) -> Disk:
    found = opened(path, patches)
    assert found.disk is not None
    return read_disk(found.disk, found.virtual_size)


def only_tree(path: Path) -> Tree:
    (volume,) = disk_of(path).volumes
    assert volume.tree is not None, volume.trouble
    assert volume.partition.number == 0
    return volume.tree


def is_root(tree: Tree) -> None:
    """The tree is the one that diskimages made."""
    assert tree.text("etc/release").encode() == made.OS_RELEASE
    assert tree.read("vmlinuz", 1 << 20) == made.KERNEL
    assert tree.read("vmlinuz", 5000, 70_000) == made.KERNEL[70_000:75_000]
    assert len(tree.names("usr/bin")) == 150
    assert tree.text("usr/bin/program-77") == "77\n"
    assert tree.node("etc/shadow") is None
    assert tree.node("etc/a") is None
    assert tree.names("etc/os-release") == []
    assert tree.node("etc/os-release/x") is None


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: made.ext("ext2"), "ext2"),
        (lambda: made.ext("ext3"), "ext3"),
        (lambda: made.ext("ext4"), "ext4"),
        (made.xfs, "xfs"),
        (made.btrfs, "btrfs"),
    ],
)
def test_root_file_systems(make: Callable[[], Path], kind: str) -> None:
    path = make()
    (volume,) = disk_of(path).volumes
    assert (volume.partition.filesystem, volume.partition.label) == (kind, "label")
    assert len(volume.partition.uuid) == 36
    assert 0 < volume.used < path.stat().st_size
    is_root(only_tree(path))


@pytest.mark.parametrize("inode", [256, 512, 1024])
def test_files_and_folders_in_inodes(inode: int) -> None:
    tree = only_tree(made.inline(inode))
    is_root(tree)
    assert len(tree.names("etc")) == len([name for name in made.FILES if "etc/" in name]) + 4
    for name, content in made.FILES.items():
        assert tree.read(name, 1 << 20) == content, name


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_short_names_have_their_case(bits: int) -> None:
    assert set(made.SHORT_NAMES) <= set(only_tree(made.fat(bits)).names(""))


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd", "lzo", "lz4"])
def test_squashfs(compression: str) -> None:
    found = opened(made.squashfs(compression))
    assert found.format is Format.SQUASHFS
    assert found.tree is not None
    is_root(found.tree)


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_fat_finds_names_in_any_case(bits: int) -> None:
    (volume,) = disk_of(made.fat(bits)).volumes
    assert (volume.partition.label, volume.partition.uuid) == ("LABEL", "1234-ABCD")
    tree = volume.tree
    assert tree is not None
    assert tree.read("efi/boot/bootaa64.efi", 1 << 20) == made.KERNEL
    assert tree.names("EFI/boot") == ["BOOTAA64.EFI"]
    assert tree.text("A LONG name of a file.TXT").encode() == made.OS_RELEASE
    assert "LABEL" not in tree.names("")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("qcow2", ()),
        ("qcow2", ("-c",)),
        ("qcow2", ("-c", "-o", "compression_type=zstd")),
        ("qcow2", ("-o", "compat=0.10")),
        ("qcow2", ("-c", "-o", "compat=0.10")),
        ("qcow2", ("-o", "cluster_size=512")),
        ("qcow2", ("-o", "cluster_size=2M")),
        ("vmdk", ()),
        ("vmdk", ("-o", "subformat=streamOptimized")),
        ("vhdx", ()),
        ("raw", ()),
    ],
)
def test_disk_formats(kind: str, options: tuple[str, ...]) -> None:
    path = made.converted(kind, *options)
    found = opened(path)
    assert (found.format, found.virtual_size) == (Format(kind), 48 * made.MIB)
    is_disk(disk_of(path))


def is_disk(disk: Disk) -> None:
    assert (disk.table, disk.esp, disk.mbr_boot_code) == ("gpt", 1, False)
    esp, root = disk.volumes
    assert (esp.partition.filesystem, root.partition.filesystem) == ("vfat", "ext4")
    assert (root.partition.name, root.partition.start) == ("root", 17 * made.MIB)
    assert esp.tree is not None and esp.tree.exists("EFI/BOOT/BOOTAA64.EFI")
    assert root.tree is not None
    is_root(root.tree)


@pytest.mark.parametrize(
    ("tool", "ending", "compression"),
    [
        ("gzip", "gz", Compression.GZIP),
        ("xz", "xz", Compression.XZ),
        ("zstd", "zst", Compression.ZSTD),
        ("bzip2", "bz2", Compression.BZIP2),
    ],
)
def test_compressed_disk(tool: str, ending: str, compression: Compression) -> None:
    made.need(tool)
    path = made.disk()
    packed = path.with_name(f"{path.name}.{ending}")
    made.run(tool, "-k", "-f", path)
    found = opened(packed)
    assert (found.format, found.compression) == (Format.RAW, compression)
    assert (found.warnings, found.virtual_size) == ((), 48 * made.MIB)
    is_disk(disk_of(packed))


def test_compressed_disk_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    made.need("gzip")
    path = made.disk()
    made.run("gzip", "-k", "-f", path)
    monkeypatch.setattr(streams, "PATIENCE", -1)
    found = opened(path.with_name(f"{path.name}.gz"))
    # The partition table tells the size.
    assert (len(found.warnings), found.virtual_size) == (1, 48 * made.MIB)


def test_image_in_a_wrapping() -> None:
    made.need("xz")
    path = made.converted("qcow2")
    made.run("xz", "-k", "-f", path)
    found = opened(path.with_name(f"{path.name}.xz"))
    assert (found.format, found.compression) == (Format.QCOW2, Compression.XZ)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (bytes(0x38) + b"ARM\x64", Format.KERNEL),
        (bytes(0x24) + b"\x18\x28\x6f\x01", Format.KERNEL),
        (b"\x27\x05\x19\x56".ljust(30, b"\0") + b"\x02".ljust(40, b"\0"), Format.KERNEL),
        (b"\x27\x05\x19\x56".ljust(30, b"\0") + b"\x03".ljust(40, b"\0"), Format.INITRD),
        (b"MZ\0\0zimg", Format.KERNEL),
        (b"\x7fELF", Format.KERNEL),
        (b"070701", Format.INITRD),
        (b"Hello", Format.UNKNOWN),
        (b"\1".ljust(5000, b"\0"), Format.UNKNOWN),
    ],
)
def test_bare_files(head: bytes, kind: Format, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(head.ljust(2000, b"\0"))
    found = opened(path)
    assert found.format is kind
    assert found.disk is None and found.tree is None
    if kind is Format.UNKNOWN:
        assert found.head is None
        return
    assert found.head is not None and found.head.read(len(head)) == head
    made.need("gzip")
    made.run("gzip", path)
    packed = opened(path.with_name("file.gz"))
    assert (packed.format, packed.compression) == (kind, Compression.GZIP)
    assert packed.head is not None and packed.head.read(2) == b"\x1f\x8b"


# --- images that do not stand alone, or mean harm


def test_qcow2_with_a_backing_file(tmp_path: Path) -> None:
    made.need("qemu-img")
    path = tmp_path / "backed.qcow2"
    made.run("qemu-img", "create", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw", path)
    with pytest.raises(BadImage, match="backing file"):
        opened(path)


def test_qcow2_with_an_external_data_file(tmp_path: Path) -> None:
    made.need("qemu-img")
    path = tmp_path / "data.qcow2"
    data = f"data_file={tmp_path}/data.raw"
    made.run("qemu-img", "create", "-f", "qcow2", "-o", data, path, "10M")
    with pytest.raises(BadImage, match="another file"):
        opened(path)


def test_vmdk_with_a_parent_and_vmdk_in_pieces(tmp_path: Path) -> None:
    parent = made.converted("vmdk")
    child = tmp_path / "child.vmdk"
    made.run("qemu-img", "create", "-f", "vmdk", "-b", parent, "-F", "vmdk", child)
    with pytest.raises(BadImage, match="parent"):
        opened(child)
    with pytest.raises(BadImage, match="other files"):
        opened(made.converted("vmdk", "-o", "subformat=monolithicFlat"))


@pytest.mark.parametrize("kind", ["vdi", "qed", "vpc"])
def test_formats_that_are_not_read(kind: str) -> None:
    with pytest.raises(BadImage, match="cannot be looked into"):
        opened(made.converted(kind))


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        ((4, struct.pack(">I", 9)), "version"),
        ((20, struct.pack(">I", 60)), "damaged"),
        ((24, struct.pack(">Q", 1 << 62)), "absurd"),
        ((32, struct.pack(">I", 1)), "encrypted"),
        ((36, struct.pack(">I", 0xFFFFFFFF)), "absurd"),
        ((40, struct.pack(">Q", 1 << 50)), "beyond its end"),
        ((72, struct.pack(">Q", 1 << 40)), "Unknown QCOW2 features"),
        ((72, struct.pack(">Q", 16)), "extended L2"),
    ],
)
def test_qcow2_with_a_wrong_header(patch: tuple[int, bytes], sentence: str) -> None:
    with pytest.raises(BadImage, match=sentence):
        disk_of(made.converted("qcow2"), (patch,))


@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vhdx"])
def test_virtual_disk_that_is_cut_off(kind: str) -> None:
    path = made.converted(kind)
    for part in (0.1, 0.5, 0.9):
        size = int(path.stat().st_size * part)
        try:
            found = opened(path, size=size)
            assert found.disk is not None
            volumes = read_disk(found.disk, found.virtual_size).volumes
        except BadImage as error:
            assert str(error).endswith(".")
            continue
        assert all(v.tree is not None or v.trouble for v in volumes)


def test_partition_beyond_the_end_is_named_with_the_reason() -> None:
    path = made.disk()
    size = 17 * made.MIB + 4096
    found = opened(path, size=size)
    assert found.disk is not None
    esp, root = read_disk(found.disk, size).volumes
    assert esp.tree is not None
    assert root.tree is None and "beyond the end" in root.trouble


def test_ten_thousand_files_in_the_esp(tmp_path: Path) -> None:
    made.need("mkfs.vfat", "mcopy", "mmd")
    files = tmp_path / "many"
    files.mkdir()
    for n in range(10_000):
        (files / f"{n}.efi").touch()
    path = tmp_path / "esp.img"
    path.write_bytes(b"")
    os.truncate(path, 40 * made.MIB)
    made.run("mkfs.vfat", "-F", "32", "-s", "1", path)
    made.run("mmd", "-i", path, "::EFI")
    made.run("mcopy", "-s", "-i", path, files, "::EFI/BOOT")
    tree = only_tree(path)
    assert len(tree.names("EFI/BOOT")) == 10_000
    assert tree.exists("efi/boot/9999.EFI")


def test_directory_with_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "MAX_DIRECTORY", 100)
    tree = only_tree(made.ext("ext4"))
    assert tree.exists("boot/vmlinuz-6.1")
    with pytest.raises(BadImage, match="/usr/bin has more than 100 entries"):
        tree.names("usr/bin")


def test_circle_of_clusters() -> None:
    path = made.fat(16)
    data = path.read_bytes()
    (reserved,) = struct.unpack_from("<H", data, 14)
    # Clusters 2 and 3 are EFI and EFI/BOOT; each is now followed by the other.
    table = ((reserved * 512 + 4, struct.pack("<HH", 3, 2)),)
    (volume,) = disk_of(path, table).volumes
    assert volume.tree is not None
    with pytest.raises(BadImage, match="without an end"):
        volume.tree.names("EFI")


def test_btrfs_tree_that_leads_back_into_itself() -> None:
    path = made.btrfs()
    data = path.open("rb")
    data.seek(0x10000)
    superblock = data.read(4096)
    root, chunks = struct.unpack_from("<QQ", superblock, 0x50)
    # The level in the header of every node: the root is then thought to point to nodes.
    levels = []
    for offset in made.filled(path):
        data.seek(offset)
        header = data.read(101)
        if (
            header[32:48] == superblock[0x20:0x30]
            and struct.unpack_from("<Q", header, 48)[0] == root
        ):
            pointer = bytes(17) + struct.pack("<QQ", root, 1)
            levels.append((offset + 96, struct.pack("<IB", 1, 1) + pointer))
    assert levels and chunks
    (volume,) = disk_of(path, tuple(levels)).volumes
    assert "leads back into itself" in volume.trouble


def test_lvm_and_others_are_named(tmp_path: Path) -> None:
    lvm = bytes(512) + b"LABELONE".ljust(24, b"\0") + b"LVM2 001"
    swap = bytes(4086) + b"SWAPSPACE2"
    for head, kind in ((lvm, "LVM2_member"), (swap, "swap")):
        path = tmp_path / kind
        path.write_bytes(head.ljust(1 << 20, b"\0"))
        (volume,) = disk_of(path).volumes
        assert (volume.partition.filesystem, volume.tree, volume.trouble) == (kind, None, "")


@pytest.mark.parametrize(
    ("subvolume", "default", "told"),
    [
        ("root", False, "root"),
        ("@", False, "@"),
        ("@rootfs", False, "@rootfs"),
        ("@/.snapshots/1/snapshot", True, ""),
    ],
    ids=["Fedora", "Ubuntu", "Debian", "openSUSE"],
)
def test_btrfs_as_distributions_lay_it_out(
    subvolume: str, default: bool, told: str, tmp_path: Path
) -> None:
    """Subvolumes and compression come from the kernel's btrfs, where there is one."""
    made.need("mkfs.btrfs", "btrfs", "mount", "umount")
    if os.geteuid() or "btrfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("needs root and a kernel with btrfs")
    path = tmp_path / "btrfs.img"
    path.touch()
    os.truncate(path, 256 * made.MIB)
    made.run("mkfs.btrfs", "-q", path)
    top = tmp_path / "mnt"
    top.mkdir()
    try:
        made.run("mount", "-o", "loop,compress-force=zstd", path, top)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot mount btrfs here: {error.stderr!r}")
    try:
        if default:
            made.run("btrfs", "subvolume", "create", top / "@")
        root = top / subvolume
        root.parent.mkdir(parents=True, exist_ok=True)
        made.run("btrfs", "subvolume", "create", root)
        made.run("btrfs", "subvolume", "create", top / "home")
        made.run("cp", "-a", f"{made.root()}/.", root)
        for way in ("zlib", "lzo"):
            made.run("mount", "-o", f"remount,compress-force={way}", top)
            made.run("cp", made.root() / "boot/vmlinuz-6.1", root / way)
            made.run("sync", "-f", top)
        if default:
            made.run("btrfs", "subvolume", "set-default", root)
    finally:
        made.run("umount", top)
    (volume,) = disk_of(path).volumes
    assert volume.tree is not None, volume.trouble
    assert volume.subvolume == told
    is_root(volume.tree)
    for way in ("zlib", "lzo"):
        assert volume.tree.read(way, 1 << 20) == made.KERNEL
