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
    """What is new about a job, and a sentence for its user.

    :ivar state: the state that it has come to, None when that stays
    :ivar output_folder: UCloud's path of the job's folder, None when that stays or there is none
    :ivar new_time_allocation: the new time limit in milliseconds, counted from the start; None when that stays
    """

    state: JobState | None
    status: str
    new_time_allocation: int | None = None
    output_folder: str | None = None

    def body(self, job_id: str) -> dict[str, object]:
        """The item of jobs.control.update.

        ``expectedDifferentState`` goes with every state, so that UCloud skips the change when it knows it already.
        ``timestamp`` is left out: UCloud stamps updates itself, and later Cores refuse a null.
        """
        # No database of UCloud's takes a NUL, and today's Core ends over one.
        update: dict[str, object] = {"status": self.status.replace("\0", "")}
        if self.state is not None:
            update |= {"state": self.state.value, "expectedDifferentState": True}
        if self.new_time_allocation is not None:
            update["newTimeAllocation"] = self.new_time_allocation
        if self.output_folder is not None:
            update["outputFolder"] = self.output_folder.replace("\0", "")
        return {"id": job_id, "update": update}


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


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job has used in all, as an absolute number: the same again does no harm, and a later one replaces it.

    :ivar scope: UCloud's key of the number; unique over everything that its owner uses anywhere
    :ivar units: in the unit and the period of the category, such as core minutes
    """

    username: str
    project: str | None
    category: str
    provider: str
    scope: str
    units: int

    def body(self) -> dict[str, object]:
        """The item of accounting.v2.reportUsage."""
        owner = (
            {"type": "user", "username": self.username}
            if self.project is None
            else {"type": "project", "projectId": self.project}
        )
        return {
            "isDeltaCharge": False,
            "owner": owner,
            "categoryIdV2": {"name": self.category, "provider": self.provider},
            "usage": self.units,
            "description": {"scope": self.scope, "description": None},
        }
