"""What a controller does for the nodes that join it."""
