"""From a job of UCloud's to the batch script and options of a Slurm job."""
