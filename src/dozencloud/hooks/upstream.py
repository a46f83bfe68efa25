"""Every private name of the pinned releases that the hooks replace or call, and how it looks.

A test holds each against what is installed. What the compute driver relies on: compute/upstream.py.
"""

from __future__ import annotations

from collections.abc import Mapping

REPLACED: Mapping[str, tuple[str, ...]] = {}
"""module:name -> names of its parameters."""

USED: tuple[str, ...] = ()
"""Called, read or subclassed."""
