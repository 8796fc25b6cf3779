"""What breaks a registry, done on purpose to the real one; `python -m tests.faults --faults N`."""
