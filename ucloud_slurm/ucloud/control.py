"""What the provider tells UCloud (contract: jobs.control.update and jobs.control.chargeCredits)."""

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """UCloud's states of a job. CANCELING exists in 2021 but is never sent."""

    IN_QUEUE = "IN_QUEUE"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    EXPIRED = "EXPIRED"

    @property
    def final(self) -> bool:
        """True for the states that a job never leaves."""
        return self in (JobState.SUCCESS, JobState.FAILURE, JobState.EXPIRED)


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """A state that the job has come to, and a sentence for its user."""

    state: JobState
    status: str

    def body(self, job_id: str) -> dict[str, object]:
        """The item of jobs.control.update.

        ``expectedDifferentState`` is always set, so that UCloud skips the change when it knows it already.
        ``timestamp`` is left out: UCloud stamps updates itself, and later Cores refuse a null.
        """
        return {
            "id": job_id,
            "update": {"state": self.state.value, "status": self.status, "expectedDifferentState": True},
        }


@dataclass(frozen=True, slots=True)
class Charge:
    """Use of one period that is to be paid.

    :ivar charge_id: unique over all jobs of the provider; a repeated one is booked once
    :ivar units: whole minutes, hours or days, by the product's unitOfPrice
    :ivar multiplier: nodes or cores
    """

    charge_id: str
    job_id: str
    units: int
    multiplier: int
    description: str

    def body(self) -> dict[str, object]:
        """The item of chargeCredits; both names of the multiplier are sent, each era reads its own."""
        return {
            "id": self.job_id,
            "chargeId": self.charge_id,
            "units": self.units,
            "numberOfProducts": self.multiplier,
            "periods": self.multiplier,
            "performedBy": None,
            "description": self.description,
        }
