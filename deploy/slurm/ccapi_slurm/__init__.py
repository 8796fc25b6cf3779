"""Send the events of the Slurm hooks to ccapi; needs only Python 3.9 and its standard library."""
