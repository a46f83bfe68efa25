"""What a new cloud has: databases, catalogue, flavors, networks, image, first server."""
