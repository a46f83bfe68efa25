"""One installation as data: where it lives, its settings, plan, state, secrets and certificates."""
