"""What nodes send to the controller, as JSON schemas (2020-12), and what is wrong with it.

Fields that no schema names are let through: a later release sends them. Each `description` ends
the sentence "NAME is not ...", which quotes nothing of what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dozencloud.host.network import tunnels
from dozencloud.nodes.tokens import Refused

LINE = {
    "type": "string",
    "format": "printable",
    "maxLength": 199,
    "description": "a line of text of less than 200 characters",
}
TEXT = {"type": "string", "description": "text"}
NUMBER = {"type": "number", "description": "a number"}
TRUTH = {"type": "boolean", "description": "true or false"}
AN_OBJECT = {"type": "object", "description": "an object"}

JOIN = {
    **AN_OBJECT,
    "required": ["token", "name", "chassis", "csr", "address", "release"],
    "properties": {
        "token": TEXT,
        "name": TEXT,
        "chassis": TEXT,
        "csr": TEXT,
        "address": TEXT,
        "release": TEXT,
        "networks": TEXT,
    },
}
CERTIFICATE = {**AN_OBJECT, "required": ["csr"], "properties": {"csr": TEXT}}
REPORT = {
    **AN_OBJECT,
    "required": [
        *("release", "architecture", "board", "clusters", "kvm", "aarch32", "memory"),
        *("available", "disk", "free", "temperature", "issuer", "clock"),
    ],
    "properties": {
        "release": LINE,
        "architecture": LINE,
        "board": LINE,
        "clusters": {
            "type": "array",
            "items": {
                "type": "array",
                "prefixItems": [LINE, {"type": "integer"}],
                "items": False,
                "minItems": 2,
            },
            "description": "a list of models with their numbers of CPUs",
        },
        "kvm": TRUTH,
        "aarch32": TRUTH,
        "memory": NUMBER,
        "available": NUMBER,
        "disk": NUMBER,
        "free": NUMBER,
        "temperature": {"type": ["number", "null"], "description": "a number, or null"},
        "issuer": LINE,
        "clock": NUMBER,
        "encapsulation": {
            "enum": list(tunnels.PORTS),
            "description": f"one of {', '.join(tunnels.PORTS)}",
        },
        "networks": LINE,
    },
}


def wrong(schema: Mapping[str, Any], data: object) -> str:
    """What is wrong with the data, in a few words; empty where they fit."""
    # 80 ms, which whoever only lists nodes does without.
    from jsonschema import Draft202012Validator, FormatChecker

    formats = FormatChecker(())
    formats.checks("printable")(lambda text: not isinstance(text, str) or text.isprintable())
    validator = Draft202012Validator(schema, format_checker=formats)
    error = next(validator.iter_errors(data), None)
    if error is None:
        return ""
    if error.validator == "required":
        return (
            f"{next(name for name in schema['required'] if name not in error.instance)} is missing"
        )
    if not error.path:
        return f"it is not {schema['description']}"
    name = str(error.path[0])
    return f"{name} is not {schema['properties'][name]['description']}"


def fitting(schema: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """The data as they are; Refused where they do not fit."""
    if said := wrong(schema, data):
        raise Refused(
            f"The request is not what this release expects: {said}.",
            "Install the controller's release of DozenCloud on the node.",
        )
    return dict(data)
