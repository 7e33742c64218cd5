"""The scenes of the demonstration: a conversation with a site and a UCloud of its own, and what happens in each."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.exchanges import Exchange
from tests.sandbox.demo.guide import Conversation, Row
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.sandbox.relay import Relay
from tests.sandbox.site import Site, SiteSettings

MINUTE = 60
PASS_SECONDS = 2.0
SHORTLY_SECONDS = 30.0
CALLS = frozenset({"create", "terminate", "verify", "update", "chargeCredits", "reportUsage"})
TABLES = {"accounting": {"every": "1m"}}


class Scene:
    """One conversation with a Core and a site of its own, on the shared cluster."""

    def __init__(
        self,
        title: str,
        rows: Sequence[Row],
        cluster: Cluster,
        installation: Installation,
        say: Callable[[str], None],
        *,
        number: int,
        era: CoreEra,
        conf: Path | None = None,
    ) -> None:
        """Describes it; nothing is started.

        :param number: counts the scenes, so that their jobs have ids of their own
        :param conf: slurm.conf for the site, instead of the cluster's own
        """
        self.cluster = cluster
        self._say: Callable[[str], None] = lambda line: say(f"{title:<15} | {line}")
        self.conversation = Conversation(title, rows, self._say)
        self.core = SimulatedCore(provider="example", era=era, first_id=54112 + number)
        self.job = ""
        slug = title.replace(" ", "-")
        self.site = Site(
            cluster, self.core, installation, SiteSettings(folder=cluster.folder / "sites" / slug, tables=TABLES, conf=conf)
        )
        self._changed = threading.Condition()
        self.core.on_exchange(self._heard)

    def open(self) -> None:
        """Starts the Core, the service and the worker."""
        shutil.rmtree(self.site.folder, ignore_errors=True)
        self.core.start()
        self.site.install()
        self.site.start()
        self.site.loop(PASS_SECONDS)

    def close(self) -> None:
        """Ends them."""
        self.site.stop()
        self.core.stop()

    def submit(self, name: str) -> None:
        """A researcher starts a job that would run for ten minutes."""
        self.job = self.core.submit(
            application=("sleeper", "1.0.0"),
            product="example-compute-1",
            parameters={"seconds": {"type": "integer", "value": 600}},
            name=name,
            minutes=15,
        )
        self._say(f"UCloud's job {self.job} is Slurm job {self.slurm_id()}")

    @property
    def bill(self) -> str:
        """The call that reports usage."""
        return "reportUsage" if self.core.era.accounting == "quotas" else "chargeCredits"

    def make_poor(self) -> None:
        """From now on the owner can pay for one minute, and not for two."""
        if self.core.era.accounting == "quotas":
            self.core.accounts.set_quota(1)
        else:
            self.core.charging = "as-documented"
            self.core.wallets.set(owner="user", credits=1)

    def until(self, call: str, times: int, seconds: float, *, answer: bool = False) -> None:
        """Waits until a row has been said so many times.

        :raises SandboxError: it was not, or something else was said
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self.conversation.reached(call, times, answer=answer) and self.conversation.wrong is None:
                if not self._changed.wait(deadline - time.monotonic()):
                    self.conversation.give_up(f"waited {seconds:.0f} s in vain for {call}")
        if self.conversation.wrong is not None:
            raise SandboxError(self.conversation.wrong)

    def slurm_id(self) -> int:
        """The Slurm job, as the administrator's command shows it."""
        return int(json.loads(self.site.cli("show", self.job, "--json").stdout)["slurm_id"])

    def elapsed(self) -> int:
        """Seconds that the Slurm job has run, asked of the cluster itself."""
        shown = self.cluster.run("squeue", "--noheader", f"--jobs={self.slurm_id()}", "--format=%M").strip()
        minutes, _, seconds = shown.rpartition(":")
        return int(minutes) * MINUTE + int(seconds)

    def _heard(self, phase: Literal["request", "response"], exchange: Exchange) -> None:
        call = exchange.call.rpartition(".")[2]
        if call not in CALLS:
            return
        job = exchange.job_ids[0] if exchange.job_ids else self.job
        answer = {"status": exchange.status, "body": exchange.response}
        content = answer if phase == "response" else exchange.request
        with self._changed:
            self.conversation.said(exchange.call, job, content, answer=phase == "response")
            self._changed.notify_all()


def accounting(scene: Scene) -> None:
    """A job is charged three times, ended by its user, and charged for the rest."""
    scene.submit("a long simulation")
    scene.until(scene.bill, 3, 4 * MINUTE)
    # The rest must be worth a unit: more than half of one.
    wait_until("half a minute more", lambda: scene.elapsed() >= 3 * MINUTE + 35, seconds=MINUTE)
    scene.core.terminate(scene.job)
    scene.until("update", 2, SHORTLY_SECONDS)
    scene.core.wait(scene.job, "SUCCESS", SHORTLY_SECONDS)


def missing_credits(scene: Scene) -> None:
    """A job whose owner cannot pay the first charge."""
    scene.submit("a poor simulation")
    scene.make_poor()
    scene.until("update", 2, 3 * MINUTE)
    scene.core.wait(scene.job, "SUCCESS", SHORTLY_SECONDS)


def out_of_sync(scene: Scene, relay: Relay) -> None:
    """The same, but the controller cannot be reached when the job is to be cancelled; then the job vanishes."""
    scene.core.before_answer("jobs.control.chargeCredits", lambda _: relay.cut())
    scene.submit("a lost simulation")
    scene.make_poor()
    scene.until("chargeCredits", 1, 2 * MINUTE, answer=True)
    # Cut off, the site cannot cancel. It sees the job again when another minute has been used, and is cut off again.
    slurm_id = scene.slurm_id()
    wait_until("another minute", lambda: scene.elapsed() >= 2 * MINUTE, seconds=2 * MINUTE)
    relay.restore()
    scene.until("chargeCredits", 2, MINUTE, answer=True)
    scene.cluster.forget_job(slurm_id)
    scene.conversation.comment(scene.job)
    scene.core.verify(scene.job)
    relay.restore()
    scene.until("update", 2, 2 * MINUTE)
    scene.core.wait(scene.job, "FAILURE", SHORTLY_SECONDS)


def out_of_sync_unasked(scene: Scene, relay: Relay) -> None:
    """The same with a Core that never asks: the job vanishes while the controller cannot be reached."""
    scene.core.before_answer("accounting.v2.reportUsage", lambda _: relay.cut())
    scene.submit("a lost simulation")
    scene.make_poor()
    scene.until(scene.bill, 1, 2 * MINUTE, answer=True)
    scene.cluster.forget_job(scene.slurm_id())
    scene.conversation.comment(scene.job)
    relay.restore()
    scene.until("update", 2, 2 * MINUTE)
    scene.core.wait(scene.job, "FAILURE", SHORTLY_SECONDS)
