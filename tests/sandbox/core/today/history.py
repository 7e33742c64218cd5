"""What an update does to a job at a Core where each builds on the one before (contract: update, rules 1 to 12)."""

from dataclasses import replace
from typing import Any

from tests.sandbox.core.era import FINAL
from tests.sandbox.core.jobs import CoreJob, StateChange
from tests.sandbox.core.today.messages import JobUpdate

Json = dict[str, Any]
MINUTE = 60_000


def after(job: CoreJob, update: JobUpdate, at: int) -> CoreJob:
    """The job after an update: the same when that does not apply, without a trace.

    :param at: milliseconds since the epoch
    """
    if not applies(job.state, update):
        return job
    job = replace(job, updates=[*job.updates, _entry(update, at)])
    if update.output_folder is not None:
        job = replace(job, output_folder=update.output_folder)
    if update.new_time_allocation is not None:
        # What is beyond the last whole minute is lost on the way.
        job = replace(job, time_allocation=update.new_time_allocation // MINUTE * MINUTE)
    if update.state is None or update.state == job.state:
        return job
    started = at if update.state == "RUNNING" else job.started_at
    return replace(job, state=update.state, states=[*job.states, StateChange(at, update.state)], started_at=started)


def applies(state: str, update: JobUpdate) -> bool:
    """Whether an update is taken by a job in that state. A final state may follow a final one."""
    if update.expected_state is not None:
        if update.expected_state != state:
            return False
    elif update.expected_different_state and update.state == state:
        return False
    return state not in FINAL or update.state is None or update.state in FINAL


def _entry(update: JobUpdate, at: int) -> Json:
    return {
        "state": update.state,
        "outputFolder": update.output_folder,
        "status": update.status,
        "expectedState": update.expected_state,
        "expectedDifferentState": update.expected_different_state,
        "newTimeAllocation": update.new_time_allocation,
        "allowRestart": update.allow_restart,
        "newMounts": update.new_mounts,
        "resourceList": update.resource_list,
        "timestamp": at,
    }
