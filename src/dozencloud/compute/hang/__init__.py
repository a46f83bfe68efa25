"""Whether a server hangs, and why."""
