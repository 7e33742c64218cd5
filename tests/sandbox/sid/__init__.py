"""A Debian sid in a folder: a newer Slurm than this machine's own, pyslurm built for it, and a copy of the checkout."""
