"""Ways in: clients of the APIs, SSH, serial console, gdb."""
