"""Package managers: one file each, behind one small interface (base.py)."""
