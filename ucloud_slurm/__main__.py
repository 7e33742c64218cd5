"""``python -m ucloud_slurm`` is the ``ucloud-slurm`` command."""

from ucloud_slurm.cli.main import main

main(prog_name="ucloud-slurm")
