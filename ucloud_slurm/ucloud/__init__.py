"""UCloud's language: message types, the token check, the client of Core. Knows no Slurm."""
