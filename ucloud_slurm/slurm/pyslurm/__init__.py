"""Slurm through pyslurm, in a small process of its own. ``import pyslurm`` is the real module, here as everywhere."""
