.PHONY: check nightly docs clients cuts life pairs arm-host arm-node arm-board arm-pair

# Checks and tests all that this machine can.
check:
	./tests/run

# Makes the tables and pictures in docs/ that repeat code anew; the check fails where one differs.
docs:
	./tools/docs

# All that the check leaves out because it takes long: many hours.
nightly:
	DOZEN_LONG=1 ./tests/run -m long
	$(MAKE) --keep-going arm-host arm-node arm-board arm-pair clients

# Pulls the plug of a controller and of a node ten times, on each system.
cuts:
	DOZEN_LONG=1 ./tests/run tests/fresh/test_cuts.py

# Lets nodes of each system join controllers of each system.
pairs:
	DOZEN_LONG=1 ./tests/run tests/fresh/test_pairs.py

# Does with servers of each kind all that Nova knows; the check does most of it.
life:
	DOZEN_LONG=1 ./tests/run tests/e2e/test_server_life.py

# Runs servers with KVM in emulated ARMv8 machines: docs/arm-host.md
arm-host:
	./tests/armhost/start

# Lets an emulated ARMv8 machine join a cloud of this one, and run servers: docs/arm-host.md
arm-node:
	./tests/armhost/start node

# The same with a 32-bit ARM board of 1 GiB, which emulates its servers.
arm-board:
	./tests/armhost/start node --machine 32-bit

# Two emulated ARMv8 machines join; servers move from the KVM of one to that of the other.
arm-pair:
	./tests/armhost/start pair

# The functional tests of openstacksdk and openstackclient, their own, against a new cloud.
clients:
	./tests/clients/start
