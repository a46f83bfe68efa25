"""Distributions: one file each. A new one is a new file here, and one for the launcher in
bootstrap/distributions/."""
