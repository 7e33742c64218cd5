"""What an update does to a job at the Core of 2021 and 2022 (contract: jobs.control.update, rules 1 to 10).

Source: the UCloud developer guide, jobs, and the ten rules by which its Core of 2021 takes updates.
"""

from dataclasses import replace
from typing import Any

from tests.sandbox.core.early.wire import Update
from tests.sandbox.core.era import FINAL, CoreEra
from tests.sandbox.core.jobs import CoreJob, StateChange

Json = dict[str, Any]


def after(job: CoreJob, before: str, update: Update, at: int, era: CoreEra) -> CoreJob:
    """The job after an update, which is in its history also where it changes nothing else.

    :param before: the state at the start of the request, with which the update is compared, also if it is the second
        for the same job
    :param at: milliseconds since the epoch
    """
    job = replace(job, updates=[*job.updates, _entry(update, at, era)])
    if not _applies(update, before):
        return job
    if update.output_folder is not None:
        job = replace(job, output_folder=update.output_folder)
    if update.new_time_allocation is not None and era.has_new_time_allocation:
        job = replace(job, time_allocation=update.new_time_allocation)
    if update.state is None:
        return job
    started = at if update.state == "RUNNING" and job.started_at is None else job.started_at
    if update.state != job.state:
        job = replace(job, states=[*job.states, StateChange(at, update.state)])
    return replace(job, state=update.state, started_at=started)


def _applies(update: Update, state: str) -> bool:
    """Whether more than the history changes. The provider does not learn when it does not."""
    if update.expected_state is not None and update.expected_state != state:
        return False
    if update.expected_different_state and update.state == state:
        return False
    return state not in FINAL


def _entry(update: Update, at: int, era: CoreEra) -> Json:
    entry: Json = {
        "state": update.state,
        "outputFolder": update.output_folder,
        "status": update.status,
        "expectedState": update.expected_state,
        "expectedDifferentState": update.expected_different_state,
        "timestamp": at,
    }
    return entry | ({"newTimeAllocation": update.new_time_allocation} if era.has_new_time_allocation else {})
