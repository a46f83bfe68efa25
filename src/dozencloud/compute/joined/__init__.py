"""What nova-compute has besides on a node that joined."""
