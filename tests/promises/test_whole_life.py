"""Random lives of jobs with random faults: three things hold at the end of each, whatever happened.

One Slurm job per UCloud job; the sum of charges is Slurm's seconds; one final state, the last and the true one.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from pytest_mock import MockerFixture

from tests.conftest import Clock, World, configuration, served
from tests.promises.test_one_job_one_slurm_job import submission_of
from tests.sandbox.core import SimulatedCore
from tests.sandbox.site import PRODUCTS
from tests.support.keys import next_key
from tests.support.model import Model, ModelJob
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.states import Phase as SlurmPhase
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.job_state import JobPhase, Stop

ENDS = [
    SlurmState.COMPLETED,
    SlurmState.FAILED,
    SlurmState.TIMEOUT,
    SlurmState.CANCELLED,
    SlurmState.NODE_FAIL,
    SlurmState.OUT_OF_MEMORY,
]
CHANGES: list[dict[str, Any]] = [
    {"name": "x"},
    {"name": "allocation"},
    {"comment": "x"},
    {"partition": "gpu"},
    {"account": "other"},
    {"cpus": 7},
    {"cpus": 3, "gpus": 4, "partition": "gpu", "name": "y", "comment": ""},
]
TRUTH = {
    SlurmState.COMPLETED: "SUCCESS",
    SlurmState.FAILED: "SUCCESS",
    SlurmState.CANCELLED: "SUCCESS",
    SlurmState.OUT_OF_MEMORY: "SUCCESS",
    SlurmState.TIMEOUT: "EXPIRED",
    SlurmState.NODE_FAIL: "FAILURE",
}


class Lives(RuleBasedStateMachine):
    """Core, provider and a model of Slurm; every rule is something that happens at a real site."""

    charging: Literal["as-documented", "as-coded"] = "as-documented"

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        clock = Clock()
        core = SimulatedCore(provider="example", now=clock, new_key=next_key)
        core.charging = self.charging
        core.start()
        model = Model(clock)
        products = [product | {"charge_by": "allocated"} for product in PRODUCTS]
        provider = Provider.open(configuration(core, Path(self.folder.name), products=products), now=clock, scheduler=model)
        model.user = provider.mapping.identity("user", None).person.user
        self.serving = served(core, provider)
        self.world = World(core, provider, model, clock, self.serving.__enter__())
        self.ids: list[str] = []
        self.forged: list[ModelJob] = []

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.heal_and_finish()
        finally:
            self.serving.__exit__(None, None, None)
            self.world.provider.close()
            self.world.core.stop()
            self.folder.cleanup()
        assert self.world.core.ended is None

    # -- what happens ---------------------------------------------------------------------------------------

    @rule()
    def submit(self) -> None:
        if len(self.ids) < 4:
            self.ids.append(self.world.submit())

    @rule(seconds=st.integers(1, 400))
    def work(self, seconds: int) -> None:
        self.world.work(seconds)

    @rule(kind=st.sampled_from(["lose_answers", "drop_requests"]))
    def next_submission_has_no_answer(self, kind: str) -> None:
        setattr(self.world.model, kind, 1)

    @rule(part=st.sampled_from(["controller", "accounting"]), up=st.booleans())
    def slurm_comes_and_goes(self, part: str, up: bool) -> None:
        setattr(self.world.model, part, up)

    @rule(down=st.booleans())
    def ucloud_comes_and_goes(self, down: bool) -> None:
        self.world.core.faults.outage(down)

    @rule(call=st.sampled_from(["chargeCredits", "update"]))
    def an_answer_of_ucloud_is_lost(self, call: str) -> None:
        self.world.core.faults.drop_answer(f"jobs.control.{call}", times=1)

    @precondition(lambda self: self.world.model.jobs)
    @rule(number=st.integers(0, 3), seconds=st.integers(0, 200))
    def a_job_starts(self, number: int, seconds: int) -> None:
        self.world.model.begin_run(self.some(number))
        self.world.clock.advance(seconds)

    @precondition(lambda self: self.world.model.jobs)
    @rule(number=st.integers(0, 3), state=st.sampled_from(ENDS))
    def a_job_ends(self, number: int, state: SlurmState) -> None:
        if self.some(number).run.state is SlurmState.RUNNING:
            self.world.model.end(self.some(number), state)

    @precondition(lambda self: self.world.model.jobs)
    @rule(number=st.integers(0, 3))
    def a_job_is_requeued(self, number: int) -> None:
        self.world.clock.advance(2)
        self.world.model.requeue(self.some(number))

    @precondition(lambda self: self.world.model.jobs)
    @rule(number=st.integers(0, 3), change=st.sampled_from(CHANGES))
    def a_job_is_changed_by_hand(self, number: int, change: dict[str, Any]) -> None:
        self.world.model.change(self.some(number), **change)

    @precondition(lambda self: self.world.model.jobs)
    @rule(number=st.integers(0, 3), cpus=st.integers(1, 5), seconds=st.integers(1, 90))
    def a_running_job_gets_another_size(self, number: int, cpus: int, seconds: int) -> None:
        self.world.model.begin_run(self.some(number))
        self.world.clock.advance(seconds)
        self.world.model.resize(self.some(number), cpus)

    @rule(fault=st.sampled_from(["lose_answers", "drop_requests", "nothing"]), older=st.booleans())
    def somebody_imitates_a_job(self, fault: str, older: bool) -> None:
        """All but the nonce is shown to the owner before the submission, and may be submitted by hand before it arrives."""
        if len(self.ids) >= 4:
            return
        setattr(self.world.model, fault, 1)
        self.submit()
        row = self.world.row(self.ids[-1])
        submission = submission_of(self.world, row.id)
        forged = self.world.model.add(replace(submission, comment=submission.comment.rpartition(":")[0]))
        self.forged.append(forged)
        if older:
            forged.runs[-1] = replace(forged.run, submitted=forged.run.submitted - 5)

    @precondition(lambda self: self.world.model.jobs)
    @rule(number=st.integers(0, 3))
    def slurmctld_forgets(self, number: int) -> None:
        self.world.model.purge(self.some(number))

    @precondition(lambda self: self.ids)
    @rule(number=st.integers(0, 3))
    def the_user_terminates(self, number: int) -> None:
        self.world.core.terminate(self.ids[number % len(self.ids)])

    @precondition(lambda self: self.ids)
    @rule()
    def core_asks_to_verify(self) -> None:
        self.world.core.verify(*self.ids)

    def some(self, number: int) -> ModelJob:
        return self.world.model.jobs[number % len(self.world.model.jobs)]

    # -- what holds -----------------------------------------------------------------------------------------

    @invariant()
    def one_job_one_slurm_job(self) -> None:
        for job_id in getattr(self, "ids", []):
            assert len([job for job in self.world.model.of(job_id) if job not in self.forged]) <= 1

    def heal_and_finish(self) -> None:
        world = self.world
        world.model.controller = world.model.accounting = True
        world.model.lose_answers = world.model.drop_requests = 0
        world.core.faults.outage(False)
        for _ in range(12):
            world.work(20)
            for job in world.model.jobs:
                world.model.begin_run(job)
        world.clock.advance(45)
        for job in world.model.jobs:
            world.model.end(job)
        for _ in range(6):
            world.work(20)
        for job_id in self.ids:
            self.check(job_id)
        seconds = sum(self.world.model.cpu_seconds(job) for job in self.world.model.jobs if job not in self.forged)
        assert abs(sum(map(self.world.booked, self.ids)) * 60 - seconds) <= 30, "they have one wallet"

    def check(self, job_id: str) -> None:
        world, row = self.world, self.world.row(job_id)
        jobs = [job for job in world.model.of(job_id) if job not in self.forged]
        assert row.phase is JobPhase.ENDED
        finals = [state for state in world.told(job_id) if state in ("SUCCESS", "FAILURE", "EXPIRED")]
        assert len(set(finals)) == 1
        assert world.core.job(job_id).state == finals[0] == world.told(job_id)[-1]
        if not jobs:  # terminated before it was submitted
            assert finals[0] == "SUCCESS"
            return
        assert row.stop is not Stop.NO_FUNDS
        (job,) = jobs
        last = job.run.state
        assert last is not None
        assert last.phase is SlurmPhase.ENDED
        assert finals[0] == TRUTH[last]
        assert row.slurm_id == job.run.id
        seconds = world.model.cpu_seconds(job)
        assert row.used == seconds
        assert abs(world.booked(job_id) * 60 - seconds) <= 60, "and half a unit of the jobs before it"


@pytest.mark.parametrize("charging", ["as-documented", "as-coded"])
def test_random_lives_end_with_one_job_the_right_bill_and_one_true_state(charging: str, mocker: MockerFixture) -> None:
    mocker.patch("tenacity.nap.time.sleep")  # the waits between tries are not what is tried here
    mocker.patch.object(Lives, "charging", charging)
    run_state_machine_as_test(
        Lives,
        settings=settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)),
    )
