"""The catalogue: images for ARM that others publish, where they are, and how they are proved."""

from dozencloud.images.catalogue.entries import (
    Choice,
    Entry,
    Kind,
    available,
    check_mirrors,
    find,
    load,
)
from dozencloud.images.catalogue.fetch import Fetched, fetch, fetch_url

__all__ = [
    "Choice",
    "Entry",
    "Fetched",
    "Kind",
    "available",
    "check_mirrors",
    "fetch",
    "fetch_url",
    "find",
    "load",
]
