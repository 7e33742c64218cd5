"""The demonstration: UCloud's developer guide with real jobs, its conversations side by side, then its other calls."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import ERAS
from tests.sandbox.demo.files import ACCOUNT, FilesScene
from tests.sandbox.demo.guide import TABLES as CONVERSATIONS
from tests.sandbox.demo.guide import Row
from tests.sandbox.demo.live import LiveScene
from tests.sandbox.demo.scenes import Scene, accounting, missing_credits, out_of_sync, out_of_sync_unasked
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.sandbox.relay import Relay


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
            if self._has_files:
                self._say("- Install the package sudo if it is not here, and have a rule for it while the cluster runs.")
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
        self._say("Three conversations follow, side by side. A minute is the guide's quarter of an hour.")
        self._say(f"To look at the jobs yourself: SLURM_CONF={self._cluster.conf} squeue")
        self._say("")
        installation = Installation(self._cluster.folder / "product")
        installation.make()
        with ThreadPoolExecutor(1) as beside, ExitStack() as stack:
            files = self._begin_files(installation, beside, stack)
            good = self._conversations(installation)
            good = self._live(installation) and good
            return (files is None or self._last("files", "A file that a job reads, and its result:", files, ACCOUNT)) and good

    def _conversations(self, installation: Installation) -> bool:
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
        return self._verdict(scenes)

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
        scene = LiveScene(self._cluster, installation, self._era, lambda line: self._say(f"live            | {line}"))
        return self._last("live", "A job that is followed and steered:", scene.play, self._cluster.service_user)

    @property
    def _has_files(self) -> bool:
        """Whether files are played: earlier UClouds have no such calls here, and without root there are no researchers."""
        return self._era.name == "today" and bool(self._cluster.users)

    def _begin_files(
        self, installation: Installation, beside: ThreadPoolExecutor, stack: ExitStack
    ) -> Callable[[], None] | None:
        """Opens the scene of files while others play; gives what plays it, or None where it is not played."""
        if not self._has_files:
            return None
        scene = FilesScene(self._cluster, installation, self._era, lambda line: self._say(f"files           | {line}"))
        stack.callback(scene.close)
        opened = beside.submit(scene.open)
        stack.callback(wait, [opened])

        def play() -> None:
            opened.result()
            scene.play()

        return play

    def _last(self, name: str, title: str, play: Callable[[], None], account: str) -> bool:
        """One of the scenes after the guide's.

        :param account: whose jobs are ended afterwards
        """
        self._say("")
        self._say(title)
        self._say("")
        try:
            play()
        except Exception as error:  # noqa: BLE001  whatever it is, the scene was not played
            self._say(f"{name}: NOT as it should be: {type(error).__name__}: {error}")
            return False
        finally:
            self._cluster.run("scancel", f"--user={account}")
        self._say("")
        self._say(f"{name}: as it should be.")
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
