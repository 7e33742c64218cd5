"""The Scheduler: one contract for its backends on the running cluster, and pyslurm's misfortunes without one."""
