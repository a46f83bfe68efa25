"""Files that go from node to node with a server: by the other's libvirtd, with TLS on both sides.

Upstream copies them by ssh. libvirt has no call for a file, but one for a volume of a storage pool,
and a folder can be such a pool for as long as the copy takes.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import libvirt
import nova.conf
from lxml import etree
from nova.context import get_admin_context
from nova.exception import InstanceFaultRollback, ResizeError
from nova.objects.compute_node import ComputeNodeList
from nova.virt.libvirt.volume import remotefs

CONF = nova.conf.CONF


def element(name: str, *children: Any, text: str = "", **attributes: str) -> Any:
    """An XML element."""
    made = etree.Element(name, attributes)
    made.text = text or None
    made.extend(children)
    return made


def pool_xml(folder: Path) -> str:
    """The folder as a pool; it has one name, so that one that was left behind is found."""
    permissions = element("permissions", element("mode", text="0711"))
    target = element("target", element("path", text=str(folder)), permissions)
    name = element("name", text=f"dozen-{folder.name}")
    return str(etree.tostring(element("pool", name, target, type="dir"), encoding="unicode"))


def volume_xml(name: str, size: int) -> str:
    """A file of so many bytes, whatever is in it, which takes no room yet."""
    raw = element("target", element("format", type="raw"))
    numbers = element("capacity", text=str(size)), element("allocation", text="0")
    made = element("volume", element("name", text=name), *numbers, raw)
    return str(etree.tostring(made, encoding="unicode"))


def address(host: str) -> str:
    """Of a node that Nova calls by its address or by its name."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(host))
    return str(ComputeNodeList.get_all_by_host(get_admin_context(), host)[0].host_ip)


@contextmanager
def pool(host: str, folder: Path, *, make: bool = False) -> Iterator[Any]:
    """A folder of another node. make: it is not there yet."""
    connection = libvirt.open(CONF.libvirt.live_migration_uri % address(host))
    try:
        with suppress(libvirt.libvirtError):
            connection.storagePoolLookupByName(f"dozen-{folder.name}").destroy()
        flags = libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD if make else 0
        made = connection.storagePoolCreateXML(pool_xml(folder), flags)
        try:
            yield made
        finally:
            made.destroy()
    finally:
        connection.close()


def send(host: str, source: Path, path: Path) -> None:
    """Copy a file to another node, whose folder is there; holes stay holes."""
    with pool(host, path.parent) as folder, source.open("rb") as file:
        with suppress(libvirt.libvirtError):
            folder.storageVolLookupByName(path.name).delete()
        volume = folder.createXML(volume_xml(path.name, source.stat().st_size))
        stream = folder.connect().newStream()
        volume.upload(stream, 0, 0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
        stream.sparseSendAll(_read, _section, _skip, file)
        stream.finish()


def fetch(host: str, path: Path, target: Path) -> None:
    """Copy a file from another node; holes stay holes."""
    with pool(host, path.parent) as folder, target.open("wb") as file:
        stream = folder.connect().newStream()
        volume = folder.storageVolLookupByName(path.name)
        volume.download(stream, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
        stream.sparseRecvAll(_write, _grow, file)
        stream.finish()


def _read(stream: Any, size: int, file: BinaryIO) -> bytes:
    return file.read(size)


def _section(stream: Any, file: BinaryIO) -> tuple[bool, int]:
    """Whether data begins here or a hole, and its length; (False, 0) at the end (lseek(2))."""
    here = file.tell()
    size = os.fstat(file.fileno()).st_size
    try:
        data = file.seek(here, os.SEEK_DATA)
    except OSError:  # no more data
        data = size
    end = file.seek(here, os.SEEK_HOLE) if data == here < size else data
    file.seek(here)
    return data == here < size, end - here


def _skip(stream: Any, length: int, file: BinaryIO) -> int:
    return file.seek(length, os.SEEK_CUR)


def _write(stream: Any, data: bytes, file: BinaryIO) -> int:
    return file.write(data)


def _grow(stream: Any, length: int, file: BinaryIO) -> int:
    return file.truncate(file.seek(length, os.SEEK_CUR))


class PeerDriver(remotefs.RemoteFilesystemDriver):  # type: ignore[misc]  # nova is untyped
    """What Nova asks of another node's files while it moves a server there.

    on_execute, on_completion: for programs that would have to be killed.   compression: not here.
    """

    def create_file(self, host: str, dst_path: str, on_execute: Any, on_completion: Any) -> None:
        """Nova asks for one to see whether two nodes have a folder in common."""
        raise NotImplementedError("Nodes share no folder.")

    def remove_file(self, host: str, dst_path: str, on_execute: Any, on_completion: Any) -> None:
        """None was made."""
        raise NotImplementedError("Nodes share no folder.")

    def create_dir(self, host: str, dst_path: str, on_execute: Any, on_completion: Any) -> None:
        """Nova's first step, before the server is stopped: it goes on where it is if this fails."""
        try:
            with pool(host, Path(dst_path), make=True):
                pass
        except libvirt.libvirtError as error:
            reason = f"The other node's libvirtd refused the server's folder: {error}"
            raise InstanceFaultRollback(ResizeError(reason=reason)) from error

    def remove_dir(self, host: str, dst_path: str, on_execute: Any, on_completion: Any) -> None:
        """With the files in it."""
        with pool(host, Path(dst_path)) as folder:
            for volume in folder.listAllVolumes():
                volume.delete()
        with pool(host, Path(dst_path).parent) as parent:
            parent.storageVolLookupByName(Path(dst_path).name).delete()

    def copy_file(
        self, src: str, dst: str, on_execute: Any, on_completion: Any, compression: Any
    ) -> None:
        """One of both begins with a host and a colon."""
        if dst.startswith("/"):
            host, _, path = src.partition(":")
            fetch(host, Path(path), Path(dst))
        else:
            host, _, path = dst.partition(":")
            send(host, Path(src), Path(path))


def use() -> None:
    """Put it in the place of upstream's, for the whole process."""
    remotefs.SshDriver = PeerDriver
