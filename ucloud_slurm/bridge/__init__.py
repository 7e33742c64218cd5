"""The decisions, as pure functions: job to batch script, Slurm record to update, use to charges."""
