"""DozenCloud: OpenStack on ARM that anyone can install in a minute."""
