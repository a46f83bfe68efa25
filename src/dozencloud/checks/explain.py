"""What is the matter with a server, by what its owner may ask the cloud."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dozencloud.compute.hang import symptoms
from dozencloud.compute.hang.symptoms import ARCHITECTURES, HANG, Finding

POWER_ON = frozenset(
    (
        *("create", "start", "reboot", "rebuild", "rescue", "unrescue", "unshelve", "evacuate"),
        *("resize", "migrate", "revertResize"),
    )
)
"""Actions of Nova after which what was found before counts no longer."""
CONSOLE_LINES = 100
"""Of a console that are asked for."""
SHOWN_LINES = 6
SHOWN_ACTIONS = 5

REST = {
    "SHUTOFF": ("It is switched off.", "Start it: openstack server start {name}"),
    "PAUSED": ("It is paused.", "Let it go on: openstack server unpause {name}"),
    "SUSPENDED": ("It is suspended.", "Let it go on: openstack server resume {name}"),
    "SHELVED": ("It is shelved.", "Bring it back: openstack server unshelve {name}"),
    "SHELVED_OFFLOADED": ("It is shelved.", "Bring it back: openstack server unshelve {name}"),
    "SOFT_DELETED": ("It is deleted, but can be restored.", "openstack server restore {name}"),
    "VERIFY_RESIZE": (
        "Its resize waits for your word.",
        "openstack server resize confirm {name}, or revert",
    ),
}
"""Status of a server that does not run because somebody wanted that, or waits for somebody."""


@dataclass(frozen=True)
class Action:
    """Something that was done with a server. message: what Nova tells about its failure."""

    time: str
    action: str
    message: str
    request: str = ""


@dataclass(frozen=True)
class Explanation:
    """A server, and what is wrong with it. finding: None if nothing is. note: then what it does."""

    id: str
    name: str
    status: str
    architecture: str
    boot: str
    image: str
    flavor: str
    addresses: tuple[str, ...]
    actions: tuple[Action, ...]
    console: tuple[str, ...]
    finding: Finding | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# ---- pure -----------------------------------------------------------------------------------

# Of a fault's message, by what Nova 34 writes (nova/exception.py): the first that matches.
FAULTS: tuple[tuple[str, re.Pattern[str], str, str], ...] = (
    (
        "no-host",
        re.compile(
            r"No valid host was found\.? ?(?:There are not enough hosts available\.?)?(.*)",
            re.DOTALL,
        ),
        "No node can run it now. {0}",
        "Compare what image and flavor ask for with what is free: "
        "openstack flavor show, openstack image show; its administrator sees more in "
        "`dozen logs nova-scheduler`.",
    ),
    (
        "refused",
        re.compile(r"Build of instance \S+ aborted: (.*)", re.DOTALL),
        "{0}",
        "Mend that, delete this server and create it anew.",
    ),
    (
        "network",
        re.compile(r"(Virtual Interface creation failed|Failed to allocate the network)"),
        "Its network did not come up in time: {0}.",
        "Ask `dozen status` whether Neutron and OVN run, then create it anew.",
    ),
)


def from_fault(message: str) -> Finding:
    """What a server in ERROR tells."""
    for code, pattern, cause, mend in FAULTS:
        if match := pattern.search(message):
            return Finding(code, cause.format(match[1].strip()).strip(), mend)
    return Finding(
        "error",
        message.strip() or "Nova does not say why.",
        "If that does not say enough: its administrator sees more in `dozen logs nova-compute`.",
    )


def said_to_hang(actions: Sequence[Action]) -> Action | None:
    """The last finding of nova-compute since the last power-on. actions: newest first."""
    for each in actions:
        if each.action == HANG:
            return each
        if each.action in POWER_ON:
            return None
    return None


def judge(
    name: str,
    status: str,
    fault: str,
    actions: Sequence[Action],
    console: str,
    said: str = "",
    unsaid: str = "",
) -> tuple[Finding | None, str]:
    """What is wrong with a server, or else what it does.

    said: code of what nova-compute found since the last power-on; empty where it found nothing.
    unsaid: id of its image, if that says no architecture.
    """
    if status == "ERROR":
        return from_fault(fault), ""
    if status in REST:
        cause, mend = REST[status]
        return Finding(status.lower(), cause, mend.format(name=shlex.quote(name))), ""
    if status == "BUILD":
        return None, "It is being built; ask again in a few seconds."
    found, hang = symptoms.from_console(console), said_to_hang(actions)
    if symptoms.has_come_up(console):
        over = " It came up after all: what is listed as `hang` is over." if hang else ""
        return None, f"Nothing is wrong: its console shows a login prompt.{over}"
    # What was said of a silent server counts no longer once it speaks.
    if hang and (found or not console.strip() or said not in symptoms.OF_SILENCE):
        return Finding(said or HANG, hang.message, ""), ""
    if found:
        return found, ""
    if hang:
        return None, (
            "It was silent for long, and speaks now: what is listed as `hang` is over. It may "
            "still boot: its console shows no prompt yet."
        )
    if not console.strip():
        note = "Nothing is known to be wrong, but its console is empty: it may still begin."
        if unsaid:
            note += (
                " Its image says no architecture, and where its bytes do not either, it runs as a"
                f" PC does. To see what is in it: dozen image inspect {unsaid}"
            )
        return None, note
    return None, "Nothing is known to be wrong. It may still boot: its console shows no prompt yet."


def boot_method(properties: Mapping[str, Any]) -> str:
    """How servers of an image with these properties start."""
    if properties.get("kernel_id"):
        return "kernel"
    if properties.get("hw_vm_mode") == "exe":
        return "rootfs"
    return "uefi" if properties.get("hw_firmware_type") == "uefi" else ""


def lines(told: Explanation) -> Iterator[str]:
    """One screen for a person."""
    yield f"{told.name} ({told.id}): {told.status}"
    kind = ARCHITECTURES.get(told.architecture, told.architecture)
    boot = {"uefi": "starts by UEFI", "kernel": "starts by a kernel", "rootfs": "container"}
    about = ", ".join(filter(None, (kind, boot.get(told.boot, ""))))
    for label, value in (
        ("image", f"{told.image} ({about})" if about else told.image),
        ("flavor", told.flavor),
        ("addresses", ", ".join(told.addresses)),
    ):
        if value:
            yield f"  {label:<10} {value}"
    if told.actions:
        yield "  last done:"
        for each in told.actions[:SHOWN_ACTIONS]:
            yield f"    {each.time}  {each.action:<10} {each.message}".rstrip()
    if told.finding and told.console:
        yield "  its console, last lines:"
        for line in told.console:
            yield f"    | {line}"
    yield ""
    if told.finding:
        yield told.finding.cause
        if told.finding.mend:
            yield told.finding.mend
    else:
        yield told.note


# ---- from the APIs --------------------------------------------------------------------------


def explain(sdk: Any, server: Any) -> Explanation:
    """Ask Nova and Glance. sdk: a connection; server: as its find_server gives it."""
    image, properties = _image(sdk, server)
    actions = [
        Action(
            str(each.start_time).replace("T", " ").partition(".")[0],
            each.action,
            each.message or "",
            each.request_id,
        )
        for each in sdk.compute.server_actions(server)
    ]
    console = _console(sdk, server)
    fault = (server.fault or {}).get("message", "")
    hang = said_to_hang(actions)
    said = _code(sdk, server, hang) if hang else ""
    architecture = str(
        properties.get("hw_emulation_architecture") or properties.get("hw_architecture") or ""
    )
    unsaid = str(properties.get("id") or "") if not architecture else ""
    finding, note = judge(server.name, server.status, fault, actions, console, said, unsaid)
    flavor = server.flavor or {}
    return Explanation(
        id=server.id,
        name=server.name,
        status=server.status,
        architecture=architecture,
        boot=boot_method(properties),
        image=image,
        flavor=f"{flavor.get('original_name') or flavor.get('name', '')}: "
        f"{flavor.get('vcpus')} CPU, {flavor.get('ram')} MiB",
        addresses=tuple(
            each["addr"] for network in (server.addresses or {}).values() for each in network
        ),
        actions=tuple(actions),
        console=tuple(symptoms.last_lines(console, SHOWN_LINES)),
        finding=finding,
        note=note,
    )


def _image(sdk: Any, server: Any) -> tuple[str, Mapping[str, Any]]:
    """Name and properties of the image that it was made from; empty if that is gone."""
    from openstack.exceptions import SDKException

    if not (server.image and server.image.id):
        return "", {}
    try:
        image = sdk.image.get_image(server.image.id)
    except SDKException:
        return f"{server.image.id}, which is gone", {}
    return image.name, image.to_dict(computed=False, original_names=True) | (image.properties or {})


def _code(sdk: Any, server: Any, hang: Action) -> str:
    """The code of a recorded finding: its event is called hang_CODE."""
    events = sdk.compute.get_server_action(hang.request, server).events or []
    names = [each["event"] for each in events]
    return str(names[0]).removeprefix(f"{HANG}_").replace("_", "-") if names else HANG


def _console(sdk: Any, server: Any) -> str:
    """The end of its console; empty where it has none now."""
    from openstack.exceptions import SDKException

    try:
        return str(sdk.compute.get_server_console_output(server, CONSOLE_LINES)["output"] or "")
    except SDKException:
        return ""
