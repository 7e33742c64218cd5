"""Stories: how a job is created, and what happens to it until its end."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile

from tests.sandbox.core import CoreError
from tests.sandbox.core.era import FINAL
from tests.sandbox.core.user_requests import UserRequest
from tests.sandbox.outage.plans import Plan, Played, drawn
from tests.sandbox.outage.rig import APPLICATION, LINKS, Rig

LONG_SECONDS = 600
WAIT_SECONDS = 600.0  # slurmctld needs minutes to see that a node was killed and has come back without its jobs
AGAIN_SECONDS = 20.0
TRIES = 60
CREATE_SECONDS = 20.0
"""How long a create is sent again. UCloud gives it up sooner, and then does not have its jobs any more."""
BULK = 3


class Stories:
    """Plays stories side by side."""

    def __init__(self, rig: Rig, seed: int, lives: Mapping[str, int], creates: Mapping[str, int]) -> None:
        """Plays none yet.

        :param lives: how often there is which
        :param creates: how often a job is created in which way
        """
        self._weights = lives, creates
        self._rig = rig
        self._core = rig.core
        self._seed = seed
        self._given_up = False
        self._drawn = 0
        self.played = Played()
        self._lives: dict[str, Callable[[Plan, str], None]] = {
            "ends": lambda _, __: None,
            "fails": lambda _, __: None,
            "cancelled by its user": self._cancelled,
            "terminated": self._terminated,
            "terminated at once": lambda _, job: self._terminate(job),
            "renamed": self._renamed,
            "extended": self._extended,
            "suspended": self._suspended,
            "requeued": self._requeued,
            "held": self._held,
            "reaches its limit": lambda _, __: None,
            "forgotten by UCloud": self._forgotten,
            "message refused": self._refused,
            "imitated": self._imitated,
        }

    def play(self, number: int, at_once: int, done: Callable[[], None]) -> None:
        """Plays so many that were not played before, and comes back when all of them are over.

        :param at_once: how many are under way at a time
        :param done: is called after each
        """
        plans = drawn(number, f"{self._seed} {self._drawn}", *self._weights)
        self._drawn += number
        with ThreadPoolExecutor(at_once) as pool:
            under_way = [pool.submit(self._play, plan) for plan in plans]
            try:
                for story in as_completed(under_way):
                    story.result()
                    done()
            except BaseException:
                self._given_up = True  # who waits comes back
                self._rig.over.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _play(self, plan: Plan) -> None:
        jobs: list[str] = []
        try:
            jobs = self._create(plan)
            for place, job in enumerate(jobs):
                self.played.jobs[job] = plan.life if place == 0 else "ends"
            self.played.creates[plan.create] += 1
            if jobs:
                self._lives[plan.life](plan, jobs[0])
            for job in jobs:
                self._reach(job)
        except TimeoutError as error:
            with self.played.lock:
                sentence = f"story {plan.number} ({plan.create}, {plan.life}): {error}"
                self.played.stuck.append((jobs[0] if jobs else "", sentence))

    # -- how it begins --------------------------------------------------------------------------------------

    def _create(self, plan: Plan) -> list[str]:
        if plan.create in ("started", "sent twice", "sent twice at once"):
            return [self._start(plan)]
        return self._raw(plan)

    def _start(self, plan: Plan) -> str:
        """As a person does, who presses the button again where it failed."""
        fault = {"sent twice": "twice", "sent twice at once": "twice at once"}.get(plan.create)
        if fault is not None:
            self._rig.to_provider.arm(fault, "/jobs")
        for _ in self._tries():
            with suppress(CoreError):
                return self._core.submit_many([self._request(plan)])[0]
            with self.played.lock:
                self.played.failed += 1
            self._rig.over.wait(plan.chance.uniform(1, 5))
        raise TimeoutError(f"it was not accepted in {TRIES} attempts")

    def _raw(self, plan: Plan) -> list[str]:
        """The same create again until it is answered with success, and once more; or UCloud gives its jobs up.

        :returns: none where it did
        """
        size = BULK if plan.create == "bulk" else 1
        others = replace(plan, life="ends")
        items = self._core.have([self._request(plan), *[self._request(others)] * (size - 1)], answered=False)

        def once() -> int:
            return self._core.call("POST", "/ucloud/example/jobs", {"items": items}, plan.owner)[0]

        jobs = [str(item["id"]) for item in items]
        deadline = time.monotonic() + CREATE_SECONDS
        while time.monotonic() < deadline and not self._over:
            if plan.create == "two at once":
                other = threading.Thread(target=_quietly, args=(once,))
                other.start()
            with suppress(CoreError):
                if once() == 200:
                    self._core.confirm(jobs)
                    break
            self._rig.over.wait(plan.chance.uniform(1, 4))
        else:
            for job in jobs:
                self._core.lose(job)
            with self.played.lock:
                self.played.failed += 1
            return []
        if plan.create == "repeated":
            _quietly(once)
        return jobs

    def _request(self, plan: Plan) -> UserRequest:
        by_itself = plan.life in ("ends", "fails", "terminated at once", "message refused", "imitated", "extended", "renamed")
        values = {"seconds": plan.seconds if by_itself else LONG_SECONDS, "code": 3 if plan.life == "fails" else 0}
        return UserRequest(
            APPLICATION,
            plan.product,
            {name: {"type": "integer", "value": value} for name, value in values.items()},
            minutes=1 if plan.life == "reaches its limit" else 30,
            owner=plan.owner,
            project=plan.project,
        )

    # -- how it goes on -------------------------------------------------------------------------------------

    def _cancelled(self, plan: Plan, job: str) -> None:
        self._reach(job, "RUNNING")
        self._insist(job, lambda: self._rig.slurm("scancel", self._number(job), user=LINKS[plan.owner]))

    def _terminated(self, plan: Plan, job: str) -> None:
        self._reach(job, "RUNNING")
        self._rig.over.wait(plan.chance.uniform(0, 3))
        self._terminate(job)

    def _renamed(self, plan: Plan, job: str) -> None:
        self._reach(job, "RUNNING")
        if not self._core.job(job).final:
            self._rig.slurm("scontrol", "update", f"JobId={self._number(job)}", "JobName=mine", user=LINKS[plan.owner])

    def _extended(self, _: Plan, job: str) -> None:
        self._reach(job, "RUNNING")
        self._ask(job, lambda: self._core.extend(job, 5))

    def _suspended(self, _: Plan, job: str) -> None:
        self._reach(job, "RUNNING")
        self._insist(job, lambda: self._unless_held(job, self._core.suspend), "SUSPENDED")
        self._insist(job, lambda: self._unless_held(job, self._core.unsuspend), "RUNNING")
        self._terminate(job)

    def _unless_held(self, job: str, ask: Callable[[str], None]) -> None:
        """Slurm requeues and holds a suspended job whose node was down."""
        if self._core.job(job).state == "IN_QUEUE":
            self._release(job)
        else:
            self._ask(job, lambda: ask(job))

    def _requeued(self, _: Plan, job: str) -> None:
        self._reach(job, "RUNNING")
        self._insist(job, lambda: self._rig.slurm("scontrol", "requeue", self._number(job)), "IN_QUEUE")
        self._runs_again(job)

    def _held(self, _: Plan, job: str) -> None:
        self._reach(job, "RUNNING")
        self._insist(job, lambda: self._rig.slurm("scontrol", "requeuehold", self._number(job)), "IN_QUEUE")
        self._runs_again(job)

    def _runs_again(self, job: str) -> None:
        self._insist(job, lambda: self._release(job), "RUNNING")
        self._terminate(job)

    def _release(self, job: str) -> None:
        # Slurm lets a requeued job wait two minutes; an administrator need not.
        self._rig.slurm("scontrol", "release", self._number(job))
        self._rig.slurm("scontrol", "update", f"JobId={self._number(job)}", "StartTime=now")

    def _forgotten(self, plan: Plan, job: str) -> None:
        """UCloud's database has lost it: its messages are refused, and nobody else's. Its user ends it."""
        self._reach(job, "RUNNING")
        self.played.payers[job] = plan.project or plan.owner
        self.played.forgotten.add(job)
        self._core.lose(job)
        deadline = time.monotonic() + WAIT_SECONDS
        # A job that was cancelled is requeued where its node is down before it has ended.
        while self._rig.follows(job) and time.monotonic() < deadline and not self._over:
            self._rig.slurm("scancel", self._number(job), user=LINKS[plan.owner])
            self._rig.over.wait(AGAIN_SECONDS / 4)

    def _refused(self, _: Plan, job: str) -> None:
        """UCloud refuses whatever is said of it, and nothing about others, until an administrator tries again."""
        self._rig.to_ucloud.refuse(job)
        self.played.refused.add(job)

    def _imitated(self, plan: Plan, job: str) -> None:
        """Somebody else gives a job of his own the same name."""
        other = next(account for person, account in sorted(LINKS.items()) if person != plan.owner)
        script = "#!/bin/sh\nsleep 2\n"
        made = self._rig.slurm(
            "sbatch", "--parsable", f"--job-name=ucloud-{job}", "--output=/dev/null", "--chdir=/tmp", user=other, stdin=script
        )
        if made is not None:
            self.played.imitations.append(int(made))

    # -- parts ----------------------------------------------------------------------------------------------

    def _terminate(self, job: str) -> None:
        self._ask(job, lambda: self._core.terminate(job))

    @property
    def _over(self) -> bool:
        return self._given_up or self._core.ended is not None

    def _tries(self) -> Iterator[int]:
        return takewhile(lambda _: not self._over, range(TRIES))

    def _ask(self, job: str, ask: Callable[[], None]) -> None:
        """What a person asks of a job, again until it is answered with success, or the job has ended."""
        for _ in self._tries():
            if self._core.job(job).final:
                return
            try:
                ask()
            except CoreError:
                self._rig.over.wait(0.5)
            else:
                return

    def _insist(self, job: str, act: Callable[[], object], state: str | None = None) -> None:
        """Does something to a job until its state, or its end, is there: a slurmctld that is killed forgets what was done."""
        deadline = time.monotonic() + WAIT_SECONDS
        wanted = FINAL | {state}
        while self._core.job(job).state not in wanted and time.monotonic() < deadline and not self._over:
            act()
            with suppress(TimeoutError):
                self._reach(job, state, AGAIN_SECONDS)
        self._reach(job, state, 0.0)

    def _reach(self, job: str, state: str | None = None, seconds: float = WAIT_SECONDS) -> None:
        """Waits for a state, or for the end.

        :raises TimeoutError: naming what did not come
        """
        if job in self.played.forgotten | self.played.refused:
            return
        wanted = FINAL | {state}
        try:
            self._core.wait_until(lambda: self._over or self._core.job(job).state in wanted, seconds, state or "its end")
        except TimeoutError:
            raise TimeoutError(f"job {job} is {self._core.job(job).state}, and not {state or 'at its end'}") from None

    def _number(self, job: str) -> str:
        return str(self._rig.slurm_id(job) or 0)


def _quietly(ask: Callable[[], object]) -> None:
    with suppress(CoreError):
        ask()
