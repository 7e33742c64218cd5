"""The demonstration: UCloud's developer guide with real jobs, its conversations side by side, then its other calls."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import ERAS, SimulatedCore
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.exchanges import Exchange
from tests.sandbox.errors import SandboxError
from tests.sandbox.guide import TABLES as CONVERSATIONS
from tests.sandbox.guide import Conversation, Row
from tests.sandbox.installation import Installation
from tests.sandbox.live import LiveScene
from tests.sandbox.processes import wait_until
from tests.sandbox.relay import Relay
from tests.sandbox.site import Site, SiteSettings

MINUTE = 60
PASS_SECONDS = 2.0
SHORTLY = 30.0
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
            cluster,
            self.core,
            installation,
            SiteSettings(folder=cluster.folder / "sites" / slug, tables=TABLES, conf=conf),
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
        """The call with which use is told."""
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


class Demo:
    """Plays the conversations on a private cluster and says what is said, as it happens."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None], *, keep: bool, era: str = "today") -> None:
        self._cluster = cluster
        self._era = ERAS[era]
        self._lock = threading.Lock()
        self._echo = say
        self._keep = keep

    def play(self) -> bool:
        """Plays all three. True only if everything went as the guide says."""
        cluster = self._cluster
        was_there = cluster.folder.exists()
        was_up = was_there and cluster.running()
        if not was_up:
            self._say("This is what the demonstration does to this machine:")
            for sentence in cluster.plan():
                self._say(f"- {sentence}")
            self._say(
                "- At the end: end all its processes"
                + ("." if was_there or self._keep else ", and delete its folder and its accounts.")
            )
        try:
            cluster.start()
            return self._scenes()
        finally:
            if not self._keep and not was_up:
                cluster.stop()
                if not was_there:
                    cluster.remove()

    def _scenes(self) -> bool:
        self._say("")
        self._say("Three conversations follow, side by side. A minute stands for the guide's quarter of an hour.")
        self._say(f"To look at the jobs yourself: SLURM_CONF={self._cluster.conf} squeue")
        self._say("")
        installation = Installation(self._cluster.folder / "product")
        installation.make()
        with Relay(self._cluster) as relay:
            conf = relay.conf_for(self._cluster, self._cluster.folder / "relay")
            reported = self._era.accounting == "quotas"
            last = out_of_sync_unasked if reported else out_of_sync
            first, second, third = CONVERSATIONS[reported]
            scenes = (
                self._scene(0, "accounting", first, installation),
                self._scene(1, "missing credits", second, installation),
                self._scene(2, "out of sync", third, installation, conf),
            )
            plays = (accounting, missing_credits, lambda scene: last(scene, relay))
            try:
                threads = [
                    threading.Thread(target=self._play, args=(scene, play), name=scene.conversation.title, daemon=True)
                    for scene, play in zip(scenes, plays, strict=True)
                ]
                for thread in threads:
                    thread.start()
                self._show_queue(scenes)
                for thread in threads:
                    thread.join()
            finally:
                for scene in scenes:
                    scene.close()
                self._cluster.run("scancel", f"--user={self._cluster.service_user}")
        good = self._verdict(scenes)
        return self._live(installation) and good

    def _scene(
        self, number: int, title: str, rows: Sequence[Row], installation: Installation, conf: Path | None = None
    ) -> Scene:
        return Scene(title, rows, self._cluster, installation, self._say, number=number, era=self._era, conf=conf)

    def _play(self, scene: Scene, play: Callable[[Scene], None]) -> None:
        try:
            scene.open()
            play(scene)
        except Exception as error:  # noqa: BLE001  whatever it is, the conversation was not had
            scene.conversation.give_up(f"{type(error).__name__}: {error}")

    def _show_queue(self, scenes: Sequence[Scene]) -> None:
        def all_run() -> bool:
            return all(s.conversation.reached("update") or s.conversation.wrong is not None for s in scenes)

        wait_until("all three jobs run", all_run, seconds=120)
        self._say("")
        self._say("squeue on the cluster:")
        for line in self._cluster.run("squeue", "--format=%.8i %.9P %.32j %.14u %.9T %.6M %R").splitlines():
            self._say(f"  {line}")
        self._say("")

    def _live(self, installation: Installation) -> bool:
        """The rest of the guide's calls, on one job."""
        self._say("")
        self._say("A job that is followed and steered:")
        self._say("")
        try:
            LiveScene(
                self._cluster, installation, self._era, lambda line: self._say(f"live            | {line}")
            ).play()
        except Exception as error:  # noqa: BLE001  whatever it is, the scene was not played
            self._say(f"live: NOT as it should be: {type(error).__name__}: {error}")
            return False
        finally:
            self._cluster.run("scancel", f"--user={self._cluster.service_user}")
        self._say("")
        self._say("live: as it should be.")
        return True

    def _verdict(self, scenes: Sequence[Scene]) -> bool:
        self._say("")
        good = True
        for scene in scenes:
            conversation, errors = scene.conversation, scene.core.protocol_errors
            if conversation.complete and not errors:
                self._say(f"{conversation.title}: as the guide says.")
                continue
            good = False
            why = conversation.wrong or "; ".join(errors) or "something was not said"
            self._say(f"{conversation.title}: NOT as the guide says: {why}")
            self._say(f"  the end of its log:\n{scene.site.log.read_text()[-2000:] if scene.site.log.exists() else ''}")
        return good

    def _say(self, line: str) -> None:
        with self._lock:
            self._echo(line)


def accounting(scene: Scene) -> None:
    """A job is charged three times, ended by its user, and charged for the rest."""
    scene.submit("a long simulation")
    scene.until(scene.bill, 3, 4 * MINUTE)
    # The rest must be worth a unit: more than half of one.
    wait_until("half a minute more", lambda: scene.elapsed() >= 3 * MINUTE + 35, seconds=MINUTE)
    scene.core.terminate(scene.job)
    scene.until("update", 2, SHORTLY)
    scene.core.wait(scene.job, "SUCCESS", SHORTLY)


def missing_credits(scene: Scene) -> None:
    """A job whose owner cannot pay the first charge."""
    scene.submit("a poor simulation")
    scene.make_poor()
    scene.until("update", 2, 3 * MINUTE)
    scene.core.wait(scene.job, "SUCCESS", SHORTLY)


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
    scene.core.wait(scene.job, "FAILURE", SHORTLY)


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
    scene.core.wait(scene.job, "FAILURE", SHORTLY)
