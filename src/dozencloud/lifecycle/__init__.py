"""A cloud as it is made, changed and unmade."""
