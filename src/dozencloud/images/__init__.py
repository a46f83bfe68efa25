"""Images: what is in them, and the small one that the first server boots from."""
