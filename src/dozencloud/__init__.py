"""DozenCloud: OpenStack on ARM that anyone can install in a minute."""

RELEASE = "0.1.0"
"""As in pyproject.toml."""
SERIES = ("0.1",)
"""Every series of releases (MAJOR.MINOR), the oldest first, the last is this release's."""
