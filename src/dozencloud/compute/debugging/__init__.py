"""gdb at the kernel of a server."""
