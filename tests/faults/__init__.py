"""Break the service, and what it stands on, on purpose: `python -m tests.faults --faults N`."""
