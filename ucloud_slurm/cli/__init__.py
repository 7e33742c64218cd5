"""The ``ucloud-slurm`` command."""
