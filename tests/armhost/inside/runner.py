"""Runs in the emulated machine: starts guests through the driver and reports what they were.

Reads /work/plan.json; writes one JSON object a line to the machine's report port.
"""

from __future__ import annotations

import json
import os
import re
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# First, because it sets Nova up for threads before anything else of it is loaded.
from novakit import Disks, Manager, NovaKit, Server

# isort: split
from nova.virt.libvirt.driver import LibvirtDriver
from operations import OPERATIONS, answers

from dozencloud.compute.abilities import abilities
from dozencloud.facts.kvm import kvm
from dozencloud.images.inspection.model import Arch, Boot, Format, Inspection
from dozencloud.images.properties import properties

WORK = Path("/work")
GUESTS = WORK / "guests"
TAIL = 4096
"""Bytes. More than the probe says in all."""
# Not at the beginning of a line: the login prompt may be there.
SAID = re.compile(r"armhost: (\S+) ?(.*?)\s*$", re.MULTILINE)


class Report:
    """The way out of the machine."""

    def __init__(self) -> None:
        names = Path("/sys/class/virtio-ports").glob("*/name")
        (port,) = (each for each in names if each.read_text().strip() == "org.dozencloud.report")
        self.out = Path("/dev", port.parent.name).open("w", buffering=1)  # noqa: SIM115

    def __call__(self, event: str, **facts: object) -> None:
        """Tell the outside, with the seconds since the machine was switched on."""
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        self.out.write(json.dumps({"event": event, "uptime": uptime, **facts}) + "\n")


def describe(kit: NovaKit) -> dict[str, Any]:
    """What the host says that it can do, and what KVM says."""
    found, able = kvm(), abilities(kit.driver._host)
    return {
        "kvm": str(found.state),
        "aarch32_el1": found.aarch32_el1,
        "sve": found.sve,
        "gic": list(found.gic),
        "runs": {name: str(accelerator) for name, accelerator in able.runs.items()},
        "clusters": [[each.model, each.cpus, each.aarch32] for each in able.clusters],
    }


def image(job: dict[str, Any]) -> dict[str, str]:
    """The image's properties, as importing it would set them."""
    arch, boot = Arch(job["architecture"]), Boot(job["boot"])
    words = job["command_line"]
    return properties(Inspection(Format.QCOW2, boot, arch=arch, command_line=words))


def run_guest(kit: NovaKit, job: dict[str, Any]) -> dict[str, Any]:
    """One guest from its XML to its last word."""
    result: dict[str, Any] = {"name": job["name"]}
    files = {name: GUESTS / file for name, file in job["files"].items()}
    disks = Disks(files.get("disk"), files.get("kernel"), files.get("initrd"))
    server = kit.server(image(job), disks, memory=512, extra_specs=job["extra_specs"])
    begin = time.monotonic()
    kit.start(server)
    result["xml"] = kit.dumpxml(server)
    pid = kit.folder / "run/qemu" / f"{server.instance.name}.pid"
    command = Path(f"/proc/{pid.read_text()}/cmdline").read_bytes()
    result["command"] = command.replace(b"\0", b" ").decode()
    console = server.folder / "console.log"
    for mark in ("up", "done") if job["seconds"] else ():
        if not wait(console, f"armhost: {mark}".encode(), begin + job["seconds"]):
            result |= {"late": mark, "console": server.console[-3000:]}
            break
        result[f"{mark}_seconds"] = round(time.monotonic() - begin, 1)
    result["said"] = dict(SAID.findall(server.console))
    if "late" not in result:
        result["survived"] = dict(survived(kit, server, job["operations"]))
    kit.destroy(server)
    return result


def survived(kit: NovaKit, server: Server, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What was done to the server, and what went wrong with it; empty if nothing did."""
    for name in names:
        try:
            OPERATIONS[name](kit, server)
            answers(kit, server)
        except Exception as error:
            traceback.print_exc()
            yield name, f"{type(error).__name__}: {error}"
            return
        yield name, ""


def wait(console: Path, mark: bytes, end: float) -> bool:
    """Whether the mark is on the console before the end. Looks seldom: the guest needs the CPU."""
    while time.monotonic() < end:
        if console.exists():
            with console.open("rb") as stream:
                stream.seek(max(0, console.stat().st_size - TAIL))
                if mark in stream.read():
                    return True
        time.sleep(0.5)
    return False


def main() -> None:
    report = Report()
    report("up", kernel=os.uname().release, kvm=Path("/dev/kvm").exists())
    plan = json.loads((WORK / "plan.json").read_text())
    try:
        with NovaKit() as kit:
            report("nova", able=describe(kit))
            ours, stock = kit.driver, LibvirtDriver(Manager())
            stock._host = ours._host
            for job in plan["jobs"]:
                kit.driver = stock if job["driver"] == "stock" else ours
                report("start", name=job["name"])
                try:
                    result = run_guest(kit, job)
                except Exception as error:
                    traceback.print_exc()
                    result = {"name": job["name"], "error": f"{type(error).__name__}: {error}"}
                report("guest", **result)
            report("end")
            os._exit(0)  # the machine is switched off: nothing to tidy up
    except BaseException:
        traceback.print_exc()
        report("failed", trace=traceback.format_exc())
        os._exit(1)


if __name__ == "__main__":
    main()
