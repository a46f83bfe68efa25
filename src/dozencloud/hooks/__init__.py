"""What is loaded into upstream's own processes, in place of upstream's entry points."""
