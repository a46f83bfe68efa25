"""What changes the machine: packages, users, processes, networks."""
