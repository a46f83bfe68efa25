"""`dozen image`: what is in an image, images into the cloud, images from the world."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dozencloud import legible
from dozencloud.cli.common import File, Invocation, Word, echo_json, pass_invocation, say, say_text
from dozencloud.errors import Exit, Problem

if TYPE_CHECKING:
    from dozencloud.cloud.installation import Cloud
    from dozencloud.images.catalogue import Choice
    from dozencloud.images.importing import Imported, Importer
    from dozencloud.images.inspection.model import Arch, Inspection
    from dozencloud.images.uploads import Progress

ADDRESSES = ("https://", "http://")
PUBLIC = "For all projects; also what is there already."


@click.group()
def image() -> None:
    """Look into images, import them, get them, build them.

    \b
    Examples:
      ./dozen image inspect some.qcow2
      sudo ./dozen image get ubuntu-24.04
    """


@image.command()
@click.argument("source", type=Word())
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_invocation
def inspect(invocation: Invocation, source: str, as_json: bool) -> None:
    """Tell what is in an image and whether it starts on ARM.

    SOURCE: a file, an https:// address, or the id of an image in the cloud. Nothing of the image is
    run or mounted.

    \b
    Examples:
      ./dozen image inspect debian-13-genericcloud-arm64.qcow2
      sudo ./dozen image inspect 9d1c9c8e-7f0c-4a55-8c7f-3a55c7dca4f5
    """
    from dozencloud.images.inspection.model import Boot

    with shown() as progress:
        found = inspected(invocation, source, progress)
    if as_json:
        say_text(f"{found.to_json()}\n")
    else:
        for line in describe(found):
            say(line)
    if found.boot is Boot.NONE:
        click.get_current_context().exit(1)


@image.command("import")
@click.argument("source", type=Word())
@click.option("--name", type=Word(), help="Name in the cloud; otherwise that of the file.")
@click.option("--public", is_flag=True, help=PUBLIC)
@click.option(
    "--property",
    "own",
    type=Word(),
    multiple=True,
    metavar="KEY=VALUE",
    help="A property of the image, which wins over ours.",
)
@click.option("--force", is_flag=True, help="Import also what cannot start.")
@pass_invocation
def import_(
    invocation: Invocation,
    source: str,
    name: str | None,
    public: bool,
    own: tuple[str, ...],
    force: bool,
) -> None:
    """Put an image into the cloud with the properties that its bytes ask for.

    SOURCE: a file or an https:// address. The same again changes nothing.

    \b
    Examples:
      sudo ./dozen image import debian-13-genericcloud-arm64.qcow2 --name debian-13 --public
      sudo ./dozen image import https://images.example.org/board.img.xz
    """
    cloud = invocation.as_admin("image", "import", source)
    cache = cloud.cache / "images"
    with shown() as progress, local(source, progress, cache) as path:
        done = importer(cloud, progress).run(
            path,
            name or stem(source),
            own=pairs(own),
            public=public,
            force=force,
            file=in_command(source),
        )
    tell(done)


@image.command("list")
@click.option("--available", is_flag=True, help="What others publish, instead of what is here.")
@click.option("--arch", type=Word(), help="Only for this architecture: aarch64, armv7l, armv6.")
@click.option("--container", is_flag=True, help="Only root file systems for containers.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_invocation
def list_(
    invocation: Invocation, available: bool, arch: str | None, container: bool, as_json: bool
) -> None:
    """List the images in the cloud, or those that `dozen image get` knows.

    Asks as the user whom OS_CLOUD or OS_AUTH_URL name, else as administrator.
    """
    rows = published(arch, container) if available else imported(invocation)
    if as_json:
        echo_json(rows)
        return
    for line in table(rows):
        say(line)


@image.command()
@click.argument("name", type=Word())
@click.option(
    "--arch",
    type=Word(),
    default="aarch64",
    show_default=True,
    help="Architecture: aarch64, armv7l or armv6.",
)
@click.option("--container", is_flag=True, help="The root file system, for containers.")
@click.option("--public", is_flag=True, help=PUBLIC)
@click.option(
    "--download",
    type=File(file_okay=False),
    metavar="DIR",
    help="Only fetch and prove it, into DIR.",
)
@pass_invocation
def get(
    invocation: Invocation,
    name: str,
    arch: str,
    container: bool,
    public: bool,
    download: Path | None,
) -> None:
    """Fetch an image that others publish, prove that it is theirs, and import it.

    \b
    Examples:
      sudo ./dozen image get ubuntu-24.04 --public
      ./dozen image get fedora-44 --download .
    """
    from dozencloud.images import catalogue

    kind = catalogue.Kind.CONTAINER if container else catalogue.Kind.VM
    choice = catalogue.find(catalogue.load(), name, architecture(arch), kind)
    cloud = None if download else invocation.as_admin("image", "get", name)
    folder = download or invocation.cloud.cache / "images"
    with shown() as progress:
        fetched = catalogue.fetch(
            choice,
            folder,
            mirrors=mirrors(invocation.cloud.settings.image.mirrors),
            progress=lambda done, size: progress("fetched", done, size),
        )
        say(f"Proved by: {fetched.verified_by}", err=True)
        if cloud is None:
            say(fetched.path)
            return
        done = importer(cloud, progress).run(fetched.path, named(choice), public=public)
    tell(done)
    say(f"Its user: {choice.entry.user}")


@image.command()
@click.argument("system", type=Word())
@click.option(
    "--arch",
    type=Word(),
    default="arm64",
    show_default=True,
    help="Architecture: arm64, armhf or armel.",
)
@click.option(
    "--for",
    "purpose",
    type=Word(),
    default="vm",
    show_default=True,
    help="What it is for: vm, kernel or container.",
)
@click.option("--public", is_flag=True, help=PUBLIC)
@click.option("--no-import", is_flag=True, help="Only build it, and print where it is.")
@pass_invocation
def build(
    invocation: Invocation, system: str, arch: str, purpose: str, public: bool, no_import: bool
) -> None:
    """Build a cloud image from Debian's packages, and import it.

    SYSTEM: debian-12 or debian-13. With systemd, OpenSSH, cloud-init and a serial console. Takes
    minutes where packages of a foreign architecture must be configured; the same again comes from
    the cache.

    \b
    Example:
      sudo ./dozen image build debian-13 --arch armhf --for kernel
    """
    from dozencloud.cloud.guards import need_root
    from dozencloud.images import debian as builder

    recipe = builder.Recipe.parse(system, arch, purpose)
    need_root(invocation.cloud, "image", "build", system)
    cloud = invocation.cloud if no_import else invocation.as_admin("image", "build", system)
    built = builder.build(
        recipe,
        invocation.cloud.cache / "build",
        say=lambda line: say(line, err=True),
        mirror=cloud.settings.image.mirror,
    )
    if no_import:
        for path in (built.image, built.kernel, built.initrd):
            if path:
                say(path)
        return
    with shown() as progress:
        done = importer(cloud, progress).run(built.image, recipe.name, public=public)
    tell(done)


def named(choice: Choice) -> str:
    """What an image of the catalogue is called in the cloud: by what tells it from the others."""
    from dozencloud.images.catalogue import Kind

    ending = "" if choice.arch == "aarch64" else f"-{choice.arch}"
    return f"{choice.entry.name}{ending}" + (
        "" if choice.file.kind is Kind.VM else f"-{choice.file.kind}"
    )


def published(arch: str | None, container: bool) -> list[dict[str, str]]:
    """Rows of the catalogue."""
    from dozencloud.images import catalogue

    entries = catalogue.available(
        catalogue.load(),
        architecture(arch) if arch else None,
        catalogue.Kind.CONTAINER if container else None,
    )
    return [
        {
            "name": entry.name,
            "title": entry.title,
            "architectures": " ".join(entry.architectures),
            "for": " ".join(entry.kinds),
            "user": entry.user,
        }
        for entry in entries
    ]


def imported(invocation: Invocation) -> list[dict[str, str]]:
    """Rows of the cloud's images, without the kernels and initrds that belong to others."""
    from dozencloud.images.importing import summary

    return summary(invocation.connection("image", "list"))


def table(rows: list[dict[str, str]]) -> Iterator[str]:
    """Lines with aligned columns; the head from the rows' keys."""
    lines = [[key.upper() for key in rows[0]]] if rows else [["There is no such image."]]
    lines += [[legible.line(cell) for cell in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


def architecture(word: str) -> Arch:
    """An architecture as Nova calls it, from that or Debian's word."""
    from dozencloud.images.inspection.model import Arch
    from dozencloud.images.properties import ALIASES

    name = ALIASES.get(word.lower(), word.lower())
    if name not in list(Arch):
        raise Problem(
            f"There is no architecture called {word}.",
            "Known: aarch64 (arm64), armv7l (armhf), armv6 (armel).",
            code=Exit.USAGE,
        )
    return Arch(name)


def mirrors(words: tuple[str, ...]) -> dict[str, str]:
    """`image.mirrors` of cloud.toml, by the catalogue's names of the publishers."""
    from dozencloud.images import catalogue

    found = {name: address for name, _, address in (word.partition("=") for word in words)}
    catalogue.check_mirrors(catalogue.load(), found)
    return found


def connected(cloud: Cloud) -> Any:
    """The cloud's SDK connection, as its administrator."""
    from dozencloud.access.administrator import connect

    return connect(cloud)


def importer(cloud: Cloud, progress: Progress) -> Importer:
    """An importer into that cloud."""
    from dozencloud.images.importing import Importer

    return Importer(connected(cloud), cloud.cache / "images", progress)


def tell(done: Imported) -> None:
    """Say what became of an import."""
    what = "Imported" if done.stored.new else "Already there"
    say(f"{what}: {done.name} ({done.stored.id}), {sentence(done.inspection)}")
    for older in done.stored.older:
        say(f"An older {done.name} is hidden now, as {older}: its servers may need it.")
    for warning in done.inspection.warnings:
        say(f"Note: {warning}")


def pairs(own: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE arguments as a table."""
    for word in own:
        if "=" not in word:
            raise click.UsageError(f"--property {word}: it must look like KEY=VALUE.")
    return dict(word.split("=", 1) for word in own)


def stem(source: str) -> str:
    """A name for the image, from its file's."""
    name = source.rstrip("/").rpartition("/")[2]
    for ending in (
        ".xz",
        ".gz",
        ".zst",
        ".bz2",
        ".qcow2",
        ".img",
        ".raw",
        ".vmdk",
        ".vhdx",
        ".tar",
    ):
        name = name.removesuffix(ending)
    return name or "image"


@contextmanager
def shown() -> Iterator[Progress]:
    """A progress bar on a terminal; elsewhere a line for each tenth."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        last: dict[str, int] = {}

        def line(what: str, done: int, size: int) -> None:
            tenth = done * 10 // size if size else 10
            if last.get(what, 0) < tenth:
                last[what] = tenth
                say(f"{what}: {tenth * 10} %", err=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bars(*columns, TransferSpeedColumn(), console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def bar(what: str, done: int, size: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=size or None)
            bars.update(tasks[what], completed=done)

        yield bar


def describe(found: Inspection) -> Iterator[str]:
    """Lines that tell a person what is in an image."""
    from dozencloud.images.inspection.model import Boot, Compression

    wrapped = "" if found.compression is Compression.NONE else f", {found.compression}-compressed"
    size = f", {found.virtual_size >> 20} MiB inside" if found.virtual_size else ""
    yield f"Format        {found.format}{wrapped}, {found.size >> 20} MiB{size}"
    yield f"Architecture  {found.arch or 'not known'}"
    if found.boot is Boot.NONE:
        yield f"Boots         no: {found.reason}"
    else:
        yield f"Boots         by {HOW[found.boot]}"
    if found.system:
        cloud_init = "with cloud-init" if found.system.cloud_init else "without cloud-init"
        yield f"System        {found.system.name or 'not known'}, {cloud_init}"
        if found.system.consoles:
            yield f"Consoles      {', '.join(found.system.consoles)}"
    if found.table:
        yield f"Partitions    {found.table.upper()}"
    for part in found.partitions:
        esp = ", EFI system partition" if found.esp and part.number == found.esp else ""
        label = f" ({part.label or part.name})" if part.label or part.name else ""
        kind = part.filesystem or "not known"
        yield f"  {part.number:>2}  {part.size >> 20:>7} MiB  {kind}{label}{esp}"
    for loader in found.loaders:
        yield f"EFI loader    {loader.path} ({loader.arch or 'unknown architecture'})"
    for kernel in found.kernels:
        yield f"Kernel        {kernel.path or 'the file itself'}: {kernel.kind}, {kernel.version}"
    for initrd in found.initrds:
        yield f"Initrd        {initrd.path or 'the file itself'}"
    if found.command_line:
        yield f"Command line  {found.command_line}"
    if found.boot is not Boot.NONE:
        yield f"Needs         {found.min_disk} GiB of disk, {found.min_memory} MiB of memory"
    for warning in found.warnings:
        yield f"Note          {warning}"


HOW = {
    "uefi": "UEFI",
    "kernel": "its kernel, which QEMU loads",
    "rootfs": "a container engine: it is a root file system",
}


def sentence(found: Inspection) -> str:
    """What an image is, in a few words."""
    system = found.system.name if found.system and found.system.name else str(found.format)
    how = HOW.get(found.boot, "nothing")
    return f"{system}, {found.arch or 'unknown architecture'}, boots by {how}"


def _need_address(source: str) -> None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(source)
        good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Problem(f"{source[:200]} is no address.", "It looks like https://HOST/FILE.")


def inspected(invocation: Invocation, source: str, progress: Progress) -> Inspection:
    """What is in an image: a file, one from the web, or one of the cloud."""
    import tempfile
    from uuid import UUID

    from dozencloud.images.importing import inspect_or_refuse

    try:
        UUID(source)
    except ValueError:
        with local(source, progress) as path:
            return inspect_or_refuse(path, path.name, in_command(source))
    cloud = invocation.as_admin("image", "inspect", source)
    with tempfile.TemporaryDirectory(prefix="dozen-image-", dir="/var/tmp") as folder:
        return importer(cloud, progress).inspect(source, Path(folder))


def in_command(source: str) -> str:
    """What to call it in a command: a download is gone when that is typed."""
    return "FILE" if source.startswith(ADDRESSES) else source


NO_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


@contextmanager
def local(source: str, progress: Progress, cache: Path | None = None) -> Iterator[Path]:
    """The image as a file of this machine; what had to be fetched is removed in the end.

    cache: where a download waits that was cut off.
    """
    import tempfile
    from functools import partial

    from dozencloud.images import catalogue

    if source.startswith(ADDRESSES):
        _need_address(source)
        with tempfile.TemporaryDirectory(prefix="dozen-image-", dir="/var/tmp") as work:
            fetched = catalogue.fetch_url(source, cache or Path(work), partial(progress, "fetched"))
            say(f"Proved by: {fetched.verified_by}", err=True)
            yield fetched.path
            fetched.path.unlink()
        return
    path = Path(source)
    try:
        kind = path.stat().st_mode
    except PermissionError:  # who opens it says so
        kind = stat.S_IFREG
    except (OSError, ValueError):  # too long, or nothing that a file can be called
        kind = 0
    if not (stat.S_ISREG(kind) or stat.S_ISBLK(kind)):
        shown, what = source[:200], NO_FILES.get(stat.S_IFMT(kind))
        raise Problem(
            f"{shown} is {what}." if what else f"There is no file {shown}.",
            "Name a file, an https:// address, or the id of an image in the cloud.",
        )
    yield path
