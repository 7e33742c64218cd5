"""ucloud-slurm: a Slurm cluster as a UCloud compute provider."""

__version__ = "0.1.0"
