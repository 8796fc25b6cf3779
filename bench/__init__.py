"""The benchmarks that `make bench` runs, side by side with what the machine can do at all."""
