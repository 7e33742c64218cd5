"""Measuring on the private cluster: what the product costs, beside Slurm's bare commands in the same run."""
