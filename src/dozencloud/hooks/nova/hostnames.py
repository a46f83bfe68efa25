"""Nova's API, which makes hostnames that Neutron takes.

What a server is called Neutron takes for its name in DNS (`dns_name` of its ports), and refuses
what is none when the server is built. Nova keeps the Latin-1 letters of a server's name
(nova/utils.py, sanitize_hostname), and takes hostnames that are none (parameter_types.fqdn).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from nova.api.openstack.compute.schemas import servers as schemas
from nova.api.validation import parameter_types, validators
from nova.compute.api import API
from nova.exception import InvalidName

from nova import utils

of_upstream = utils.sanitize_hostname

LETTERS = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ð": "d",
        "đ": "d",
        "þ": "th",
        "ł": "l",
        "\u0131": "i",
    }
)
"""Latin letters that are no letter of ASCII with a mark; the last is the i without a dot."""
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
LONGEST = 240
"""Characters; with the cloud's domain DNS has 255 (neutron_lib/api/validators/dns.py)."""
FORMAT, FORMAT_NEW = "dozen-hostname", "dozen-hostname-new"


def ascii_of(name: str) -> str:
    """The name with Latin letters only, without their marks; of other scripts nothing is left."""
    plain = unicodedata.normalize("NFKD", name.casefold().translate(LETTERS))
    return plain.encode("ascii", "ignore").decode()


def sanitize_hostname(hostname: str, default_name: str | None = None) -> Any:
    return of_upstream(ascii_of(hostname), default_name)


def check(hostname: object) -> bool:
    """Refuse what Neutron would refuse later, when nobody listens."""
    if not isinstance(hostname, str):
        return True  # which the schema says itself
    labels = hostname.split(".")
    is_number = len(labels) > 1 and labels[-1].isdigit()
    if len(hostname) <= LONGEST and all(map(LABEL.fullmatch, labels)) and not is_number:
        return True
    raise InvalidName(
        "A hostname has letters, digits and hyphens, with dots between parts of at most 63 that "
        f"neither begin nor end with a hyphen; the last is no number: {hostname!r} is none."
    )


def check_new(hostname: object) -> bool:
    """The same; a dot at the end says that the name is complete, and is left out."""
    return check(hostname.removesuffix(".") if isinstance(hostname, str) else hostname)


def _fields(schema: object) -> dict[str, Any]:
    """What the server in the body of a request may have."""
    bodies = schema.get("properties", {}) if isinstance(schema, dict) else {}
    found: dict[str, Any] = bodies.get("server", bodies.get("rebuild", {})).get("properties", {})
    return found


def use() -> None:
    """Make names of all languages hostnames; refuse those asked for that cannot be."""
    utils.sanitize_hostname = sanitize_hostname
    for name, checked in ((FORMAT, check), (FORMAT_NEW, check_new)):
        validators._FORMAT_CHECKER.checks(name, InvalidName)(checked)
    for name, schema in vars(schemas).items():
        fields = _fields(schema)
        if fields.get("hostname") == parameter_types.fqdn:
            kind = FORMAT_NEW if name.startswith("create") else FORMAT
            fields["hostname"] = {"type": "string", "format": kind}

    upstream = API._populate_instance_names

    def _populate_instance_names(self: Any, instance: Any, num_instances: int, index: int) -> None:
        if "hostname" in instance and instance.hostname:
            instance.hostname = instance.hostname.removesuffix(".")
        upstream(self, instance, num_instances, index)

    API._populate_instance_names = _populate_instance_names
