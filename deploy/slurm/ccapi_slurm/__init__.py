"""Sends what the Slurm hooks spooled to ccapi. Python 3.9 and its standard library suffice."""
