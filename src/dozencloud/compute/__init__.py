"""What runs inside nova-compute: the drivers of servers, and what they decide by."""
