"""From the description of a service to its running process."""
