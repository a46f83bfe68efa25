"""Archives of root file systems and container images, made in memory."""

import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from dozencloud.images.inspection import archives
from dozencloud.images.inspection.formats import Opened, open_image
from dozencloud.images.inspection.model import Arch, Compression, Format
from dozencloud.images.inspection.streams import Scratch
from dozencloud.images.inspection.tree import BadImage

Content = bytes | str | None


def tar(files: Mapping[str, Content], hard: Mapping[str, str] | None = None) -> bytes:
    """A tar of files (bytes), symbolic links (str), folders (None) and hard links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.mode = 0o755
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
                continue
            member.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
            member.linkname = content or ""
            archive.addfile(member)
        for path, target in (hard or {}).items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.LNKTYPE, target
            archive.addfile(member)
    return out.getvalue()


def opened(data: bytes, folder: Path) -> Opened:
    return open_image(io.BytesIO(data), len(data), Scratch(folder=folder))


ROOT: dict[str, Content] = {
    "./": None,
    "./etc/": None,
    "./etc/os-release": "../usr/lib/os-release",
    "./usr/lib/os-release": b"ID=alpine\n",
    "/absolute": b"1",
    "../../escape": b"2",
    "out": "/../../../../etc/shadow",
    "caf\udce9": b"not UTF-8",
}


@pytest.mark.parametrize(
    ("pack", "compression"),
    [
        (bytes, Compression.NONE),
        (gzip.compress, Compression.GZIP),
        (lzma.compress, Compression.XZ),
        (zstd.compress, Compression.ZSTD),
    ],
)
def test_root(pack: Callable[[bytes], bytes], compression: Compression, tmp_path: Path) -> None:
    found = opened(pack(tar(ROOT, {"usr/hard": "./usr/lib/os-release"})), tmp_path)
    assert (found.format, found.compression) == (Format.TAR, compression)
    assert found.tree is not None
    assert found.tree.names("") == ["absolute", "caf?", "etc", "out", "usr"]
    assert found.tree.text("etc/os-release") == found.tree.text("usr/hard") == "ID=alpine\n"
    assert found.tree.read("usr/hard", 3, 3) == b"alp"
    assert not found.tree.exists("out")
    assert found.virtual_size == 10 + 10 + 1 + 9


LOWER: dict[str, Content] = {
    "etc/os-release": b"old",
    "etc/gone": b"1",
    "opt/a/deep": b"1",
    "opt/b": b"1",
    "was-folder/x": b"1",
    "kept": b"kept",
}
UPPER: dict[str, Content] = {
    "etc/os-release": b"new",
    "etc/.wh.gone": b"",
    "opt/.wh..wh..opq": b"",
    "opt/c": b"3",
    "was-folder": b"now a file",
}


def oci(config: Mapping[str, Any], packs: tuple[Callable[[bytes], bytes], ...]) -> bytes:
    blobs: dict[str, Content] = {}

    def put(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layers = [put(pack(tar(files))) for pack, files in zip(packs, (LOWER, UPPER), strict=True)]
    manifest = {"config": put(json.dumps(config).encode()), "layers": layers}
    other = {"digest": "sha256:none", "platform": {"architecture": "amd64"}}
    ours = {**put(json.dumps(manifest).encode()), "platform": {"architecture": "arm64"}}
    inner = put(json.dumps({"manifests": [other, ours]}).encode())
    index = json.dumps({"manifests": [inner]}).encode()
    return tar({"oci-layout": b"{}", "index.json": index, **blobs})


def docker(config: Mapping[str, Any]) -> bytes:
    manifest = [{"Config": "c.json", "Layers": ["1/layer.tar", "2/layer.tar"]}]
    return tar(
        {
            "manifest.json": json.dumps(manifest).encode(),
            "c.json": json.dumps(config).encode(),
            "1/layer.tar": tar(LOWER),
            "2/layer.tar": "../3/layer.tar",
            "3/layer.tar": tar(UPPER),
        }
    )


@pytest.mark.parametrize(
    ("data", "arch"),
    [
        (oci({"architecture": "arm64"}, (gzip.compress, bytes)), Arch.AARCH64),
        (oci({"architecture": "arm64", "variant": "v8"}, (gzip.compress,) * 2), Arch.AARCH64),
        (oci({"architecture": "arm", "variant": "v6"}, (bytes, gzip.compress)), Arch.ARMV6),
        (
            oci(
                {"architecture": "arm", "variant": "v7"},
                (zstd.compress, bytes),
            ),
            Arch.ARMV7L,
        ),
        (gzip.compress(oci({"architecture": "amd64"}, (gzip.compress, bytes))), Arch.X86_64),
        (docker({"architecture": "arm64"}), Arch.AARCH64),
        (docker({"architecture": "vax"}), None),
    ],
)
def test_container_image(data: bytes, arch: Arch | None, tmp_path: Path) -> None:
    found = opened(data, tmp_path)
    assert (found.format, found.arch) == (Format.OCI, arch)
    assert found.tree is not None
    assert found.tree.names("") == ["etc", "kept", "opt", "was-folder"]
    assert found.tree.names("etc") == ["os-release"]
    assert found.tree.names("opt") == ["c"]
    assert found.tree.text("etc/os-release") == "new"
    assert found.tree.text("was-folder") == "now a file"
    assert found.tree.text("kept") == "kept"


def saved(manifest: object, **files: Content) -> bytes:
    return tar({"manifest.json": json.dumps(manifest).encode(), **files})


def long_header(kind: bytes) -> bytes:
    member = tarfile.TarInfo("header")
    member.type, member.size = kind, 1 << 32
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(4096)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (long_header(tarfile.XHDTYPE), "header of 4,294,967,296 bytes"),
        (long_header(tarfile.GNUTYPE_LONGNAME), "header of 4,294,967,296 bytes"),
        (tar({"oci-layout": b"", "index.json": b"{"}), "manifest is damaged"),
        (tar({"oci-layout": b"", "index.json": b"[" * 100_000}), "leads back|damaged"),
        (tar({"oci-layout": b"", "index.json": b"[]"}), "not what it should be"),
        (saved([{"Config": "c", "Layers": ["/etc/passwd"]}]), "lacks its layer"),
        (saved([{"Config": "../c", "Layers": []}]), "lacks its part"),
        (saved([{"Config": "c", "Layers": ["l"] * 1000}], c=b"{}"), "1,000 layers"),
        (saved([{"Config": "c", "Layers": ["l"]}], c=b"{}", l=gzip.compress(b"x")), "ends before"),
        (tar(ROOT)[:511], "^The tar archive ends before it is complete"),
        (tar(ROOT)[:700], "^The tar archive ends before it is complete"),
        (tar(ROOT)[:1024], "^The tar archive ends before it is complete"),
        (gzip.compress(tar(ROOT))[:-30], "ends before"),
    ],
)
def test_bad_archives(data: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=sentence):
        opened(data, tmp_path)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 100)
    with pytest.raises(BadImage, match="more than 100 files"):
        opened(tar({str(n): b"" for n in range(101)}), tmp_path)
