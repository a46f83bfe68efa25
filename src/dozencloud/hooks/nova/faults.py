"""What users are told of a failed server: the cause, without paths of files.

Upstream puts the message of an exception into a server's fault and into the events of its
actions (nova/compute/utils.py, exception_to_dict); many of them name files of the node, or hold
whole command lines. Of others, such as libvirt's, it tells the name of their class alone, and for
some it has a sentence that hides the cause.
"""

from __future__ import annotations

from typing import Any

from nova.compute import utils
from nova.exception import BuildAbortException, NovaException

from dozencloud.scrub import scrub

of_upstream = utils.exception_to_dict
SPEAKING = ("libvirt", "neutronclient")
"""Packages whose errors are sentences for who made the server."""
HIDING = (
    "Failed to allocate the network(s), not rescheduling.",
    "Failure prepping block device.",
)
"""Reasons of a failed build that stand for another (nova/compute/manager.py)."""


def sentence(fault: BaseException) -> str:
    """What the fault itself says; empty where that is not for users."""
    if isinstance(fault, NovaException):
        return str(fault.format_message())
    return str(fault) if type(fault).__module__.partition(".")[0] in SPEAKING else ""


def cause(fault: BaseException) -> str:
    """Why, as a sentence: what a fault says, or what is behind it where it hides that."""
    if isinstance(fault, BuildAbortException) and fault.kwargs.get("reason") in HIDING:
        hidden = fault.__cause__ or fault.__context__
        return (sentence(hidden) if hidden else "") or sentence(fault)
    return sentence(fault)


def exception_to_dict(fault: Any, message: str | None = None) -> dict[str, Any]:
    # Before upstream cuts it: half a path would not be found.
    told: dict[str, Any] = of_upstream(fault, scrub(message or cause(fault)))
    return told


def use() -> None:
    """Put it in upstream's place."""
    utils.exception_to_dict = exception_to_dict
