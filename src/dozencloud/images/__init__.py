"""Images: what is in them, where they come from, how one is built and imported."""
