"""On hosts with systemd: one unit runs the supervisor, one brings the services up at boot."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.facts.run import ask
from dozencloud.supervision.client import clean_environment
from dozencloud.tasks.graph import Step

FOLDER = Path("/etc/systemd/system")
SECONDS = 600.0
"""Within which a unit stops, with all services (TimeoutStopSec of systemd is 90 s)."""
SUPERVISOR, SERVICES = "dozencloud.service", "dozencloud-services.service"


def _quote(command: Sequence[str]) -> str:
    # systemd.service(5): "%" and "$" are special in command lines.
    return shlex.join(command).replace("%", "%%").replace("$", "$$")


def units(cloud: Cloud, command: Sequence[str]) -> dict[str, str]:
    """Unit files by name."""
    environment = "".join(
        f'Environment="{key}={value}"\n' for key, value in clean_environment(cloud).items()
    )
    start = [sys.executable, "-P", "-m", "dozencloud", "start"]
    return {
        SUPERVISOR: f"""\
[Unit]
Description=DozenCloud: supervisor of all services
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
{environment}ExecStart={_quote(command)}
# Also after a crash of the supervisor, which takes its services with it.
ExecStartPost=systemctl --no-block restart {SERVICES}
# Servers are children of libvirtd in this control group; they outlive the supervisor.
KillMode=process
Delegate=yes
Restart=on-failure
RestartSec=1
LimitNOFILE=65536
RuntimeDirectory=dozencloud
RuntimeDirectoryPreserve=yes

[Install]
WantedBy=multi-user.target
""",
        SERVICES: f"""\
[Unit]
Description=DozenCloud: all services, in order
Requires={SUPERVISOR}
After={SUPERVISOR}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={_quote(start)}
# 5: `dozen up` is at work and starts them itself.
SuccessExitStatus=5
TimeoutStartSec=600

[Install]
WantedBy=multi-user.target
""",
    }


def start(cloud: Cloud, step: Step, command: Sequence[str]) -> None:
    """Write and enable the units, start the supervisor's."""
    for name, text in units(cloud, command).items():
        (FOLDER / name).write_text(text)
    step.run(["systemctl", "daemon-reload"])
    step.run(["systemctl", "enable", "--quiet", SUPERVISOR, SERVICES])
    step.run(["systemctl", "restart", SUPERVISOR])


def _present(cloud: Cloud) -> bool:
    return cloud.namespace is None and (FOLDER / SUPERVISOR).exists()


def _systemctl(*words: str) -> None:
    ask("systemctl", *words, timeout=SECONDS)


def stop(cloud: Cloud) -> None:
    """Stop the units, if they are there; they stay enabled."""
    if _present(cloud):
        _systemctl("stop", SERVICES, SUPERVISOR)


def remove(cloud: Cloud) -> None:
    """Stop, disable and delete the units."""
    if not _present(cloud):
        return
    _systemctl("disable", "--now", "--quiet", SERVICES, SUPERVISOR)
    for name in (SUPERVISOR, SERVICES):
        (FOLDER / name).unlink(missing_ok=True)
    _systemctl("daemon-reload")
