"""The jobs of the simulated Core (contract: Job). What an update does to one is in the ``history`` of each era."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.sandbox.core.era import FINAL
from tests.sandbox.core.errors import CoreError

Json = dict[str, Any]
FIRST_ID = 54112


@dataclass(frozen=True, slots=True)
class StateChange:
    """A state that a job came to.

    :ivar at: milliseconds since the epoch
    """

    at: int
    state: str


@dataclass(frozen=True, slots=True)
class BookedCharge:
    """A charge in Core's books.

    :ivar taken: credits that left the wallet; less than the cost when it ran dry
    :ivar at: milliseconds since the epoch
    """

    charge_id: str
    units: int
    multiplier: int
    cost: int
    taken: int
    performed_by: str
    description: str
    at: int


@dataclass(frozen=True, slots=True)
class CoreJob:
    """A job as Core knows it at one moment. All times are milliseconds since the epoch.

    :ivar owner: the person
    :ivar project: who pays, or None for the person's own workspace
    :ivar updates: every update as stored, also those whose state was not taken; ``timestamp`` is Core's
    :ivar states: what the state was, from the first IN_QUEUE
    :ivar charges: what was booked, in order
    :ivar time_allocation: milliseconds, or None for no limit
    :ivar confirmed: whether the provider's create has been answered
    :ivar provider_generated_id: what create answered
    :ivar acl: entries ``{"entity", "permissions"}``
    :ivar registered: whether the provider had it first
    """

    id: str
    owner: str
    project: str | None
    specification: Json
    created_at: int
    time_allocation: int | None
    state: str = "IN_QUEUE"
    updates: list[Json] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    started_at: int | None = None
    output_folder: str | None = None
    charges: list[BookedCharge] = field(default_factory=list)
    confirmed: bool = False
    provider_generated_id: str | None = None
    acl: list[Json] = field(default_factory=list)
    verified_at: int | None = None
    registered: bool = False

    @property
    def final(self) -> bool:
        """Whether it has ended, for ever."""
        return self.state in FINAL

    @property
    def expires_at(self) -> int | None:
        """When its time is used up; None before it runs, or without a limit."""
        if self.started_at is None or self.time_allocation is None:
            return None
        return self.started_at + self.time_allocation

    @property
    def payer(self) -> str:
        """Whose wallet pays."""
        return self.project or self.owner

    def with_part(self, **parts: Any) -> "CoreJob":
        """The job with other parts in its specification."""
        return replace(self, specification=self.specification | parts)


class Jobs:
    """All jobs. Safe for several threads: what it gives out are copies."""

    def __init__(self, changed: threading.Condition, now: Callable[[], float], first_id: int = FIRST_ID) -> None:
        self._changed = changed
        self._now = now
        self._jobs: dict[str, CoreJob] = {}
        self._next = first_id

    def now_ms(self) -> int:
        """The time by Core's clock."""
        return int(self._now() * 1000)

    def all(self) -> list[CoreJob]:
        """Every job, by id; also those whose create has not been answered."""
        with self._changed:
            return [_copy(job) for job in self._jobs.values()]

    def get(self, job_id: str) -> CoreJob:
        """One job.

        :raises CoreError: 404
        """
        with self._changed:
            if job_id not in self._jobs:
                raise CoreError(404, "Not found")
            return _copy(self._jobs[job_id])

    def new_id(self) -> str:
        """An id for a resource: decimal, and never used again."""
        with self._changed:
            resource_id, self._next = str(self._next), self._next + 1
            return resource_id

    def add(
        self, specification: Json, owner: str, project: str | None, *, confirmed: bool = False, registered_as: str | None = None
    ) -> CoreJob:
        """Make a row, unconfirmed unless said otherwise.

        :param registered_as: the provider's id for a job that it had first
        """
        with self._changed:
            job_id = self.new_id()
            at = self.now_ms()
            job = CoreJob(
                id=job_id,
                owner=owner,
                project=project,
                specification=specification,
                created_at=at,
                time_allocation=milliseconds(specification.get("timeAllocation")),
                states=[StateChange(at, "IN_QUEUE")],
                confirmed=confirmed,
                provider_generated_id=registered_as,
                registered=registered_as is not None,
            )
            self._store(job)
            return _copy(job)

    def confirm(self, generated: dict[str, str | None]) -> None:
        """The provider has accepted these: job id -> its own id for it.

        :raises CoreError: 502 when an id cannot be kept, with nothing confirmed
        """
        with self._changed:
            given = [id_ for id_ in generated.values() if id_ is not None]
            taken = {job.provider_generated_id for job in self._jobs.values() if job.id not in generated}
            for mine in given:
                if "," in mine or mine in taken or given.count(mine) > 1:
                    raise CoreError(502, f"Invalid response from provider: its id {mine!r} cannot be used")
            for job_id, id_ in generated.items():
                self._store(replace(self._jobs[job_id], confirmed=True, provider_generated_id=id_))

    def remove(self, job_ids: Iterable[str]) -> None:
        """Forget jobs whose create failed."""
        with self._changed:
            for job_id in job_ids:
                self._jobs.pop(job_id, None)
            self._changed.notify_all()

    def lose(self, job_id: str) -> None:
        """Forget a job as if Core's database had lost it: the provider's calls about it are refused from now on.

        :raises CoreError: 404
        """
        self.get(job_id)
        self.remove([job_id])

    def wait(self, job_id: str, state: str, timeout: float = 10.0) -> None:
        """Wait until a job is in a state.

        :param timeout: seconds
        :raises TimeoutError: naming the state it is in; at once when that is a final one
        """
        with self._changed:
            self._changed.wait_for(lambda: self.get(job_id).state in FINAL | {state}, timeout)
            found = self.get(job_id).state
        if found != state:
            raise TimeoutError(f"Job {job_id} is {found}, not {state}.")

    def require(self, job_ids: Iterable[str]) -> dict[str, CoreJob]:
        """The jobs of a bulk.

        :raises CoreError: 400 for the whole bulk when one is unknown
        """
        with self._changed:
            wanted = set(job_ids)
            if not wanted <= self._jobs.keys():
                raise CoreError(400, "Unable to use all requested resources")
            return {job_id: _copy(self._jobs[job_id]) for job_id in wanted}

    def change(self, job_id: str, step: Callable[[CoreJob], CoreJob]) -> None:
        """Have a job be another one; nothing happens to one that is gone."""
        with self._changed:
            if job_id in self._jobs:
                self._store(step(self._jobs[job_id]))

    def charged(self, booked: Iterable[tuple[str, BookedCharge]]) -> None:
        """Note charges at their jobs."""
        with self._changed:
            for job_id, charge in booked:
                job = self._jobs[job_id]
                self._store(replace(job, charges=[*job.charges, charge]))

    def change_acl(self, job_id: str, acl: Sequence[Json]) -> None:
        """Replace who may use a job."""
        with self._changed:
            self._store(replace(self.get(job_id), acl=list(acl)))

    def verified(self, job_ids: Iterable[str]) -> None:
        """Note that the provider has just been asked about these."""
        with self._changed:
            for job_id in job_ids:
                if job_id in self._jobs:
                    self._store(replace(self._jobs[job_id], verified_at=self.now_ms()))

    def _store(self, job: CoreJob) -> None:
        self._jobs[job.id] = job
        self._changed.notify_all()


def milliseconds(duration: Any) -> int | None:
    """A SimpleDuration in milliseconds; None for none."""
    if not isinstance(duration, dict) or all(value is None for value in duration.values()):
        return None
    hours, minutes, seconds = (duration.get(key) or 0 for key in ("hours", "minutes", "seconds"))
    return int((hours * 3600 + minutes * 60 + seconds) * 1000)


def simple_duration(milliseconds_: int | None) -> Json | None:
    """Milliseconds as a SimpleDuration, in whole seconds; None for no limit."""
    if milliseconds_ is None:
        return None
    minutes, seconds = divmod(milliseconds_ // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return {"hours": hours, "minutes": minutes, "seconds": seconds}


def _copy(job: CoreJob) -> CoreJob:
    return replace(
        job,
        updates=[dict(update) for update in job.updates],
        states=list(job.states),
        charges=list(job.charges),
        acl=list(job.acl),
    )
