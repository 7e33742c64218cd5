"""A private real Slurm and a simulated UCloud/Core, for trying and for tests."""
