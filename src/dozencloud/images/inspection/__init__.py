"""What is in an image: read from its bytes alone, without booting or mounting anything."""
