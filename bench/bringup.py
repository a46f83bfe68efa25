"""How long the ways to a running cloud take, and what it costs, in a fresh machine.

    sudo ENVIRONMENT/bin/python bench/bringup.py [trixie|bookworm]

Prints one line per measure with its limit: fresh machine to SSH into the first ARM server;
the same with packages and environment there; stop and start; memory (PSS) of the control plane
with one server; `server create` to ACTIVE against libvirt's own start of the same domain.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fresh"))
from machine import Machine

# In the machine, by the cloud's own Python: create, then stop and start the domain by libvirt.
CREATE = """
import sys, time
from pathlib import Path
import libvirt
from dozencloud.access import administrator
from dozencloud.cloud import installation
here = installation.load(None)
sdk = administrator.connect(here)
compute, network = sdk.compute, sdk.network
image, flavor = sdk.image.find_image("tiny-arm64"), compute.find_flavor("m1.nano")
private = network.find_network("private")
created, started = [], []
for number in range(5):
    time.sleep(2)
    begun = time.monotonic()
    server = compute.create_server(name=f"bench{number}", image_id=image.id, flavor_id=flavor.id,
                                   networks=[{"uuid": private.id}])
    while compute.get_server(server.id).status != "ACTIVE":
        time.sleep(0.2)  # the API works for 0.1 s at each question
    created.append(time.monotonic() - begun)
    if number < 4:
        compute.delete_server(server)
        compute.wait_for_delete(server, interval=0.2, wait=60)
# Last, because Nova busies itself with a domain that somebody else stops.
domain = libvirt.open(here.libvirt_uri).lookupByUUIDString(server.id)
for _ in range(5):
    domain.destroy()
    begun = time.monotonic()
    domain.create()
    started.append(time.monotonic() - begun)
compute.delete_server(server)
print("RESULT", sorted(created)[2], sorted(started)[2])
"""


def report(name: str, value: float, unit: str, limit: float) -> None:
    verdict = "within" if value <= limit else "ABOVE"
    print(f"{name}: {value:.1f} {unit} ({verdict} {limit:g} {unit})", flush=True)


def main() -> None:
    suite = sys.argv[1] if len(sys.argv) > 1 else "trixie"
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as work,
        Machine.start(suite, Path(work)) as machine,
    ):

        def timed(*words: str) -> float:
            begun = time.monotonic()
            machine.run(["./dozen", *words], timeout=900, check=True)
            return time.monotonic() - begun

        report(f"fresh {suite} to SSH into the first server", timed("up"), "s", 150)
        status = json.loads(machine.run(["./dozen", "status", "--json"], check=True).stdout)
        report("control plane, one server", status["memory_mib"]["control_plane"], "MiB", 2252.8)
        report("up again", timed("up"), "s", 5)
        report("stop and start", timed("stop") + timed("start"), "s", 20)
        python = machine.run(["sh", "-c", "echo /opt/dozencloud/env-*/bin/python"]).stdout.strip()
        answer = machine.run([python, "-W", "ignore", "-c", CREATE], timeout=600, check=True)
        line = next(x for x in answer.stdout.splitlines() if x.startswith("RESULT"))
        create, libvirt = map(float, line.split()[1:])
        print(f"server create to ACTIVE: {create:.1f} s; libvirt alone: {libvirt:.1f} s")
        report("  more than libvirt", create - libvirt, "s", 3)
        timed("destroy", "--yes")
        report("up with packages and environment there", timed("up"), "s", 45)


if __name__ == "__main__":
    main()
