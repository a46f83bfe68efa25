"""The door through which nova-compute loads our driver.

Nova loads drivers from below nova.virt only (nova/virt/driver.py, load_compute_driver); this
package lands there, in `compute_driver = dozencloud.ArmLibvirtDriver`.
"""

from dozencloud.compute.libvirt.driver import ArmLibvirtDriver

__all__ = ["ArmLibvirtDriver"]
