"""Runs inside nova-compute. Imports nothing of services or cli."""
