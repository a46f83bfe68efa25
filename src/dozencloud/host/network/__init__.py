"""Networks of the machine around a cloud."""
