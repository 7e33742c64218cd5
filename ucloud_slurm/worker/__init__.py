"""The worker: a pass recovers, polls, submits, charges, delivers and cancels."""
