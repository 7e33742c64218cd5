"""The states of a job between UCloud and Slurm, and the marks that it carries."""

from enum import StrEnum


class JobPhase(StrEnum):
    """What the column ``phase`` says."""

    ACCEPTED = "accepted"  # written down; no submission has begun
    SUBMITTING = "submitting"  # a submission has begun; its outcome is not recorded
    LIVE = "live"  # Slurm has it
    ENDED = "ended"  # its last state is in the outbox
    REFUSED = "refused"  # create was answered with an error, or UCloud does not have the job


class Stop(StrEnum):
    """Why a job must end before its time."""

    TERMINATED = "terminated"  # UCloud asked for it
    NO_FUNDS = "no-funds"
    ROLLED_BACK = "rolled-back"  # another job of the same bulk was refused, or UCloud does not have the job
