"""Slurm: the Scheduler interface, its backends, job states and parsers. Knows nothing of UCloud."""
