"""P1 to P5 in random lives of jobs, with random faults, deaths and restarts of the product.

Four things hold at the end of each life, whatever has happened (:mod:`tests.support.invariants`): one Slurm job per job;
what UCloud has booked is Slurm's own number, to half a unit of each wallet; one final state, the last and the true one;
every message that was written has arrived, and has had its effect once. After an older database was put back too, but for
what nobody knows any more then.

``make test`` plays the same lives every time. ``HUNT=1000`` plays so many new ones for each UCloud, by a seed that is
printed; ``SEED`` repeats them.
"""

import functools
import os
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.conftest import Clock, World, configuration, served
from tests.promises.test_one_job_one_slurm_job import submission_of
from tests.sandbox.core import ERAS, CoreError, SimulatedCore, UserRequest
from tests.sandbox.core.today.quotas import PLENTY
from tests.sandbox.site import PRODUCTS
from tests.support.deaths import LIFE, Answer, Fate, Life, Processes, call
from tests.support.invariants import check, finish
from tests.support.keys import next_key
from tests.support.model import Model, ModelJob
from tests.support.restore import backup, restore
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.ucloud.channel import Payer, Wallet
from ucloud_slurm.web.create import EARLIER_SECONDS

HUNT = int(os.environ.get("HUNT") or 0)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
MEMORY = Path("/dev/shm")
EXAMPLES = 10
DEADLY = st.integers(1, 3000)  # statements that a process executes before it dies; of a pass, or of a call
MOST_JOBS = 4
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
SLEEPER = UserRequest(("sleeper", "1.0.0"), "example-compute-1", minutes=30)
CALLS = {
    "2021": ("jobs.control.update", "jobs.control.chargeCredits"),
    "2022": ("jobs.control.update", "jobs.control.chargeCredits"),
    "today": (
        *("jobs.control.update", "accounting.v2.reportUsage", "jobs.control.browse"),
        *("providers.resources.checkExistence", "auth.providers.refresh"),
    ),
}
numbers = st.integers(0, MOST_JOBS - 1)


def only_if(possible: Callable[[Any], object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule that does nothing otherwise. No precondition: what a process does before it dies is not the same each time."""

    def guard(step: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(step)
        def guarded(lives: "Lives", *drawn: Any, **named: Any) -> None:
            if possible(lives):
                step(lives, *drawn, **named)

        return guarded

    return guard


class Lives(RuleBasedStateMachine):
    """Core, provider and a model of Slurm; every rule is something that happens at a real site."""

    era = "today"
    charging: Literal["as-documented", "as-coded"] = "as-documented"

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, ignore_cleanup_errors=True)
        self.clock = Clock()
        core = SimulatedCore(provider="example", era=ERAS[self.era], now=self.clock, new_key=next_key)
        core.charging = self.charging
        core.start()
        self.core = core
        self.model = Model(self.clock)
        self.world = World(core, self.open(), self.model, self.clock, "")
        self.model.user = self.world.provider.mapping.identity("user", None).person.user
        self.serve()
        self.ids: list[str] = []
        self.forged: list[ModelJob] = []
        self.locked = False  # as far as the provider knows
        self.core.accounts.set_quota(PLENTY)
        self.backup: Path | None = None
        self.restored: set[str] = set()
        self.lost_rests = 0  # how often an older database had an older rest of a unit of a wallet
        self.uncertain: set[str] = set()  # jobs of which nobody knows any more what is theirs
        self.port = int(core.url.rpartition(":")[2])

    def open(self) -> Provider:
        return Provider.open(self.config(), now=self.clock, scheduler=self.model)

    def config(self, **jobs: str) -> Any:
        products = [product | {"charge_by": "allocated", "cpus": 1, "memory_gb": 1, "gpus": 0} for product in PRODUCTS]
        return configuration(self.core, Path(self.folder.name), products=products, jobs=jobs)

    def serve(self) -> None:
        self.serving = served(self.core, self.world.provider)
        self.world.url = self.serving.__enter__()

    def stop(self) -> None:
        self.serving.__exit__(None, None, None)
        self.world.provider.close()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.heal()
            finish(self.world)
            certain = [job_id for job_id in self.ids if job_id not in self.uncertain]
            check(self.world, certain, forged=self.forged, restored=self.restored, lost_rests=self.lost_rests)
            self.nothing_is_left()
        finally:
            self.stop()
            self.core.stop()
            self.folder.cleanup()
        assert self.core.ended is None
        assert self.core.protocol_errors == []

    def heal(self) -> None:
        """Slurm and UCloud answer from now on, and there are funds."""
        self.model.controller = self.model.accounting = True
        self.model.lose_answers = self.model.drop_requests = 0
        self.core.faults.clear()
        self.funds(there=True, heard=True)

    def nothing_is_left(self) -> None:
        """What is old is deleted, and nothing follows from that."""
        before = len(self.core.exchanges)
        self.world.work(100 * 86_400)
        assert [self.world.provider.jobs.get(job_id) for job_id in self.ids] == [None] * len(self.ids)
        assert not [each for each in self.core.exchanges[before:] if each.call in CALLS["today"][:2] + CALLS["2021"]]

    # -- the product ----------------------------------------------------------------------------------------

    @rule(seconds=st.integers(1, 400))
    def work(self, seconds: int) -> None:
        self.world.work(seconds)

    @rule()
    def it_is_started_anew(self) -> None:
        self.stop()
        self.world.provider = self.open()
        self.serve()

    @rule()
    def it_is_backed_up(self) -> None:
        self.backup = backup(self.world)

    @rule()
    @only_if(lambda self: self.backup)
    def the_backup_is_restored(self) -> None:
        """Passes of the worker have ended since the backup, and UCloud has given up the calls of before.

        Of a job that is not in the backup the nonce is lost, and only that tells it from what its owner has submitted under
        its name and with its comment. That UCloud has withdrawn it is lost too, and UCloud does not name it any more.
        """
        self.world.work(10)
        self.clock.advance(EARLIER_SECONDS + 1)
        assert self.backup is not None
        rests = self.rests()
        self.stop()
        restore(self.world, self.backup)
        self.world.provider = self.open()
        self.restored.update(self.ids)
        self.lost_rests += rests != self.rests()
        self.locked |= bool(self.world.provider.wallets.all_locked())
        lost = [job_id for job_id in self.ids if self.world.provider.jobs.get(job_id) is None]
        imitated = {job_id for job_id in lost if any(job in self.forged for job in self.model.of(job_id))}
        self.uncertain |= imitated | (set(lost) - set(self.present()))
        self.serve()

    def rests(self) -> list[tuple[Any, ...]]:
        return self.world.provider.store.tuples("select * from remainders order by owner_kind, owner, category, product, unit")

    @rule(statements=DEADLY, seconds=st.integers(1, 100))
    def a_pass_dies(self, statements: int, seconds: int) -> None:
        self.clock.advance(seconds)
        self.processes().work(Fate(statements))

    @rule(statements=DEADLY, number=numbers, name=st.sampled_from(["terminate", "extend", "suspend"]))
    @only_if(lambda self: self.present())
    def a_call_dies(self, statements: int, number: int, name: str) -> None:
        job = self.core.rendered(self.an_id(number))
        more = {"extend": {"requestedTime": {"hours": 0, "minutes": 7, "seconds": 0}}, "suspend": {}}.get(name)
        wrapped = more is not None and (name == "extend" or self.era != "2021")
        self.post(name, [{"job": job} | (more or {}) if wrapped else job], Fate(statements))

    @rule(statements=DEADLY, again=st.booleans(), number=st.integers(1, 2))
    def a_create_dies(self, statements: int, again: bool, number: int) -> None:
        """UCloud drops the jobs, where it says so; or it repeats its call."""
        if len(self.ids) + number > MOST_JOBS or self.locked:
            return
        jobs = self.core.have([SLEEPER] * number)
        self.ids += [job["id"] for job in jobs]
        life = self.post("", jobs, Fate(statements))
        if life.result is None and (again or self.era != "today"):
            life = self.post("", jobs, LIFE, submit_within="0.1s")  # in which nobody ends a submission that has died
        if life.result is None or (isinstance(life.result, Answer) and life.result.status != 200):
            for job in jobs:
                self.core.lose(job["id"])

    def post(self, name: str, items: list[dict[str, Any]], fate: Fate, **jobs: str) -> Life:
        return self.processes(**jobs).request(call(self.core, name, items), fate)

    def processes(self, **jobs: str) -> Processes:
        return Processes(self.config(**jobs), self.model, self.clock)

    # -- UCloud ---------------------------------------------------------------------------------------------

    @rule(project=st.sampled_from([None, "lab"]))
    def submit(self, project: str | None) -> None:
        if len(self.ids) < MOST_JOBS and not self.locked:
            self.ids.append(self.world.submit(project=project))

    @rule(number=numbers)
    @only_if(lambda self: self.present())
    def a_create_is_repeated(self, number: int) -> None:
        job = self.core.rendered(self.an_id(number))
        self.core.call("POST", "/ucloud/example/jobs", {"items": [job]}, job["owner"]["createdBy"])

    @rule(down=st.booleans())
    def ucloud_comes_and_goes(self, down: bool) -> None:
        self.core.faults.outage(down)

    @rule(hours=st.sampled_from([0, 6]), part=st.sampled_from(["ucloud", "controller", "accounting", "slurm"]))
    def a_part_is_away_for_long(self, hours: int, part: str) -> None:
        self.core.faults.outage(part == "ucloud")
        self.model.controller = part not in ("controller", "slurm")
        self.model.accounting = part not in ("accounting", "slurm")
        for _ in range(4):
            self.world.work(100 + 3600 * hours)
        self.core.faults.outage(False)
        self.model.controller = self.model.accounting = True

    @rule(number=numbers, state=st.sampled_from(ENDS), part=st.sampled_from(["ucloud", "controller", "accounting", "slurm"]))
    @only_if(lambda self: self.model.jobs)
    def a_job_ends_and_is_forgotten_by_slurmctld_meanwhile(self, number: int, state: SlurmState, part: str) -> None:
        self.a_job_starts(number, 50)
        self.world.work(1)
        self.a_job_ends(number, state)
        self.slurmctld_forgets(number)
        self.a_part_is_away_for_long(0, part)

    @rule(seconds=st.integers(0, 100))
    def ucloud_restarts_and_forgets_what_was_just_reported(self, seconds: int) -> None:
        self.core.stop()
        self.world.work(seconds)
        self.core.start(self.port)

    @rule(data=st.data(), how=st.sampled_from(["drop", "html", "500", "429"]))
    def an_answer_of_ucloud_is_lost_or_garbled(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(CALLS[self.era]))
        faults = self.core.faults
        if how == "drop":
            faults.drop_answer(name)
        elif how == "html":
            faults.html(name)
        else:
            faults.answer(name, int(how), {"why": "not now"})

    @rule(there=st.booleans(), heard=st.booleans())
    def funds(self, there: bool, heard: bool) -> None:
        """A wallet goes dry, or is filled, and the listener hears of it or does not. Credits of 2021 are never used up."""
        if self.era != "today":
            return
        if heard or not there:
            self.locked = not there
        self.core.accounts.set_quota(PLENTY if there else 0)
        if heard:
            account = self.core.accounts.get()
            payer = Payer.of("user", None, account.category)
            wallet = Wallet(payer, "example", True, account.quota, account.usage, account.locked, self.clock())
            self.world.provider.wallets.set(wallet)

    @rule(number=numbers, what=st.sampled_from(["terminate", "suspend", "unsuspend", "extend"]))
    @only_if(lambda self: self.present())
    def the_user_asks(self, number: int, what: str) -> None:
        ask = getattr(self.core, what)
        with suppress(CoreError):  # the job waits, or has ended; Slurm is away
            ask(self.an_id(number), 7) if what == "extend" else ask(self.an_id(number))

    @rule()
    @only_if(lambda self: self.present())
    def core_asks_to_verify(self) -> None:
        if self.era != "today":
            self.core.verify(*self.present())

    # -- Slurm ----------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(["lose_answers", "drop_requests"]))
    def next_submission_has_no_answer(self, kind: str) -> None:
        setattr(self.model, kind, 1)

    @rule(part=st.sampled_from(["controller", "accounting"]), up=st.booleans())
    def slurm_comes_and_goes(self, part: str, up: bool) -> None:
        setattr(self.model, part, up)

    @rule(number=numbers)
    @only_if(lambda self: self.model.jobs)
    def slurm_says_a_word_that_nobody_knows(self, number: int) -> None:
        job = self.some(number)
        whole = job.run
        job.runs[-1] = whole._replace(state=None, state_text="DREAMING")
        self.world.work(5)
        job.runs[-1] = whole

    @rule(number=numbers, seconds=st.integers(0, 200))
    @only_if(lambda self: self.model.jobs)
    def a_job_starts(self, number: int, seconds: int) -> None:
        self.model.begin_run(self.some(number))
        self.clock.advance(seconds)

    @rule(number=numbers, state=st.sampled_from(ENDS))
    @only_if(lambda self: self.model.jobs)
    def a_job_ends(self, number: int, state: SlurmState) -> None:
        if self.some(number).run.state is SlurmState.RUNNING:
            self.model.end(self.some(number), state)

    @rule(number=numbers)
    @only_if(lambda self: self.model.jobs)
    def a_job_is_requeued(self, number: int) -> None:
        self.clock.advance(2)
        self.model.requeue(self.some(number))

    @rule(number=numbers, before=st.sampled_from([SlurmState.RUNNING, SlurmState.SUSPENDED]))
    @only_if(lambda self: self.model.jobs)
    def an_operator_suspends_or_resumes(self, number: int, before: SlurmState) -> None:
        job = self.some(number)
        if job.run.state is before:
            after = SlurmState.SUSPENDED if before is SlurmState.RUNNING else SlurmState.RUNNING
            job.runs[-1] = job.run._replace(state=after, state_text=after.name)

    @rule(number=numbers, change=st.sampled_from(CHANGES))
    @only_if(lambda self: self.model.jobs)
    def a_job_is_changed_by_hand(self, number: int, change: dict[str, Any]) -> None:
        self.model.change(self.some(number), **change)

    @rule(number=numbers, cpus=st.integers(1, 5), seconds=st.integers(1, 90))
    @only_if(lambda self: self.model.jobs)
    def a_running_job_gets_another_size(self, number: int, cpus: int, seconds: int) -> None:
        self.model.begin_run(self.some(number))
        self.clock.advance(seconds)
        self.model.resize(self.some(number), cpus)

    @rule(fault=st.sampled_from(["lose_answers", "drop_requests", "nothing"]), older=st.booleans())
    def somebody_imitates_a_job(self, fault: str, older: bool) -> None:
        """All but the nonce is shown to the owner before the submission, and may be submitted by hand before it arrives."""
        if len(self.ids) >= MOST_JOBS or self.locked:
            return
        setattr(self.model, fault, 1)
        self.submit(None)
        row = self.world.row(self.ids[-1])
        submission = submission_of(self.world, row.id)
        forged = self.model.add(submission._replace(comment=submission.comment.rpartition(":")[0]))
        self.forged.append(forged)
        if older:
            forged.runs[-1] = forged.run._replace(submitted=forged.run.submitted - 5)

    @rule(number=numbers)
    @only_if(lambda self: self.model.jobs)
    def slurmctld_forgets(self, number: int) -> None:
        self.model.purge(self.some(number))

    def some(self, number: int) -> ModelJob:
        return self.model.jobs[number % len(self.model.jobs)]

    def present(self) -> list[str]:
        there = {job.id for job in self.core.jobs}
        return [job_id for job_id in self.ids if job_id in there]

    def an_id(self, number: int) -> str:
        return self.present()[number % len(self.present())]

    # -- what holds all the time -----------------------------------------------------------------------------

    @invariant()
    def one_job_one_slurm_job(self) -> None:
        for job_id in getattr(self, "ids", []):
            assert len([job for job in self.model.of(job_id) if job not in self.forged]) <= 1


@pytest.mark.parametrize(("era", "charging"), [(era, "as-documented") for era in ERAS] + [("2021", "as-coded")])
def test_random_lives_end_with_one_job_the_right_bill_one_true_state_and_no_lost_message(era: str, charging: str) -> None:
    machine = type("Lives", (Lives,), {"era": era, "charging": charging})
    profile = settings(
        max_examples=HUNT or EXAMPLES,
        stateful_step_count=30,
        deadline=None,
        derandomize=not HUNT,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    if HUNT:
        sys.stdout.write(f"SEED={SEED}\n")
        machine = seed(SEED)(machine)
    run_state_machine_as_test(machine, settings=profile)
