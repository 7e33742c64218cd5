"""The product as processes that can die: one for each request and each pass, killed at a chosen statement.

SIGKILL ends a process: nothing is cleaned up, and all of its threads are gone. The model of Slurm and the simulated
UCloud are in the process of the test and live on. A fork server has everything imported, so that a process costs a few
milliseconds (:mod:`tests.support.mortal`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from signal import SIGKILL
from typing import Any, NamedTuple

from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.provider import encoded_username
from tests.support.model import Model
from ucloud_slurm.config import Config
from ucloud_slurm.errors import NotNow
from ucloud_slurm.slurm.errors import ActionRefusedError, SubmissionRefusedError
from ucloud_slurm.worker.run import Result

DEATH_SECONDS = 60.0  # that the end of a process may take on a busy host

_context = get_context("forkserver")
_context.set_forkserver_preload(["tests.support.mortal"])


class Point(NamedTuple):
    """A statement of the package.

    :ivar file: from the folder of the package
    """

    file: str
    line: int

    @classmethod
    def parse(cls, text: str) -> "Point":
        """The statement that ``str`` has written."""
        file, _, line = text.rpartition(":")
        return cls(file, int(line))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Fate:
    """What is to become of a process.

    :ivar death: the statement before which it dies, or how many statements it executes before it does; None: it lives
    :ivar lists: it lists the statements that it executes
    """

    death: Point | int | None = None
    lists: bool = False


LIFE = Fate()


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as it came."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Errand:
    """What a process is for.

    :ivar now: its clock, which stands, in seconds since the epoch
    :ivar cluster: Slurm's name of the cluster
    :ivar request: None: a pass of the worker
    """

    config: Config
    now: float
    cluster: str | None
    request: Request | None
    fate: Fate


@dataclass(frozen=True, slots=True)
class Life:
    """What became of a process.

    :ivar result: of its request or its pass; None: it has died
    :ivar points: the statements that it has executed, each once, in order, if it lists them
    """

    result: Answer | Result | None
    points: tuple[Point, ...] = ()


def live(errand: Errand, model: Model) -> Life:
    """Starts a process, answers what it asks of Slurm, and waits for its end.

    :raises AssertionError: it has ended by itself without a result
    """
    from tests.support.mortal import run

    ours, theirs = _context.Pipe()
    process = _context.Process(target=run, args=(errand, theirs))
    process.start()
    theirs.close()
    with ours:
        try:
            life = _serve(ours, model)
        except (EOFError, ConnectionError):
            life = Life(None)
    process.join(DEATH_SECONDS)
    code = process.exitcode
    process.close()
    assert code == (-SIGKILL if life.result is None else 0), f"the process has ended by itself ({code}): see its error output"
    return life


def _serve(process: "Connection[object, Any]", model: Model) -> Life:
    while not isinstance(said := process.recv(), Life):
        name, arguments = said
        try:
            answer = True, getattr(model, name)(*arguments)
        except (NotNow, SubmissionRefusedError, ActionRefusedError) as error:
            answer = False, error
        process.send(answer)
    return said


class Processes:
    """The product, each request and each pass of which is a process of its own."""

    def __init__(self, config: Config, model: Model, now: Callable[[], float]) -> None:
        self.config = config
        self._model = model
        self._now = now

    def work(self, fate: Fate = LIFE) -> Life:
        """A pass of the worker."""
        return live(Errand(self.config, self._now(), self._model.cluster, None, fate), self._model)

    def request(self, request: Request, fate: Fate = LIFE) -> Life:
        """A request of UCloud's."""
        return live(Errand(self.config, self._now(), self._model.cluster, request, fate), self._model)


def call(core: SimulatedCore, name: str, items: Sequence[Mapping[str, Any]], user: str = "user") -> Request:
    """A call of Core's about jobs, as it sends it.

    :param name: such as ``terminate``; empty: create
    """
    path = f"/ucloud/{core.provider}/jobs" + (f"/{name}" if name else "")
    headers = (
        ("Authorization", f"Bearer {core.tokens.core_token()}"),
        ("UCloud-Username", encoded_username(user, core.era).decode()),
    )
    return Request("POST", path, headers, json.dumps({"items": list(items)}).encode())
