"""Servers as virtual machines, by libvirt and QEMU."""
