"""UCloud's protocol: message types, verification of tokens, the client of UCloud/Core. Knows no Slurm."""
