"""Nova, whose processes are all told what an image reference is (references.py)."""
