"""Slurm's language: one Scheduler interface, the backends behind it, states, parsers. Knows no UCloud."""
