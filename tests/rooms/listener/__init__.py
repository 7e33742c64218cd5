"""UCloud's channel: its messages, the small process that hears it, and what becomes of jobs."""
