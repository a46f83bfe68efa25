"""What runs on a node that joined."""
