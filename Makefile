.PHONY: check arm-host

# Checks and tests all that this machine can.
check:
	./tests/run

# Runs servers with KVM in emulated ARMv8 machines: docs/arm-host.md
arm-host:
	./tests/armhost/start
