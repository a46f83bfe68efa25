.PHONY: check arm-host arm-node

# Checks and tests all that this machine can.
check:
	./tests/run

# Runs servers with KVM in emulated ARMv8 machines: docs/arm-host.md
arm-host:
	./tests/armhost/start

# Lets an emulated ARMv8 machine join a cloud of this one, and run servers: docs/arm-host.md
arm-node:
	./tests/armhost/start node
