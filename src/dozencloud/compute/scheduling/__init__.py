"""Runs inside nova-scheduler: which node a server goes to, and why to none."""
