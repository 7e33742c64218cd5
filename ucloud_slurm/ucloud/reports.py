"""Reports to UCloud (contract: jobs.control.update, jobs.control.chargeCredits, accounting.v2.reportUsage)."""

from enum import StrEnum
from typing import NamedTuple


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


class JobUpdate(NamedTuple):
    """A change of a job, with a sentence for its owner.

    :ivar state: the new state, None for no change
    :ivar output_folder: UCloud's path of the job's folder, None for no change or no such path
    :ivar new_time_allocation: the new time limit in milliseconds, counted from the start; None for no change
    """

    state: JobState | None
    status: str
    new_time_allocation: int | None = None
    output_folder: str | None = None

    def body(self, job_id: str) -> dict[str, object]:
        """The item of jobs.control.update.

        ``expectedDifferentState`` is sent with every state, so that UCloud skips a state that it has already.
        ``timestamp`` is left out: UCloud sets it, and later Cores refuse a null.
        """
        update: dict[str, object] = {"status": self.status}
        if self.state is not None:
            update |= {"state": self.state.value, "expectedDifferentState": True}
        if self.new_time_allocation is not None:
            update["newTimeAllocation"] = self.new_time_allocation
        if self.output_folder is not None:
            update["outputFolder"] = self.output_folder
        return {"id": job_id, "update": update}


class Charge(NamedTuple):
    """A charge for the use of one period.

    :ivar charge_id: unique over all jobs of the provider; UCloud books a repeated one once
    :ivar units: whole minutes, hours or days, by the product's unitOfPrice
    :ivar multiplier: nodes or cores
    """

    charge_id: str
    job_id: str
    units: int
    multiplier: int
    description: str

    def body(self) -> dict[str, object]:
        """The item of chargeCredits. The multiplier is sent under the names of both eras."""
        return {
            "id": self.job_id,
            "chargeId": self.charge_id,
            "units": self.units,
            "numberOfProducts": self.multiplier,
            "periods": self.multiplier,
            "performedBy": None,
            "description": self.description,
        }


class Usage(NamedTuple):
    """All that a job has used, as an absolute number. Reports are idempotent, and a later one replaces an earlier one.

    :ivar scope: UCloud's key of the number, unique over all usage of the owner at all providers
    :ivar units: in unit and period of the category, such as core-minutes
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
