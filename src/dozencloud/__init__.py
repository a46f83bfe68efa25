"""DozenCloud: OpenStack on ARM that anyone can install in a minute."""

RELEASE = "0.1.0"
"""As in pyproject.toml."""
