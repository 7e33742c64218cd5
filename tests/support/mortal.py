"""What the fork server of :mod:`tests.support.deaths` has imported, and what its processes do."""

import importlib
import logging
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest

import ucloud_slurm
from tests.support.deaths import LIFE, Answer, Errand, Fate, Life, Point, Request
from ucloud_slurm.app import create_app
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.slurm.scheduler import PendingSubmission, Scheduler
from ucloud_slurm.system.process import Start
from ucloud_slurm.web import openapi
from ucloud_slurm.worker.run import run_once

PACKAGE = f"{Path(ucloud_slurm.__file__).parent}/"
NOT_IMPORTED = ("__main__", "wsgi", "pyslurm")  # programs, and what needs a library that is not there

for _module in pkgutil.walk_packages(ucloud_slurm.__path__, "ucloud_slurm."):
    if not any(part in NOT_IMPORTED for part in _module.name.split(".")):
        importlib.import_module(_module.name)


class RemoteModel:
    """The model of Slurm, which is in the process of the test."""

    def __init__(self, test: "Connection[object, Any]", cluster: str | None) -> None:
        self.cluster = cluster
        self._test = test
        self._lock = threading.Lock()

    def start(self, submission: Submission, as_user: Start) -> PendingSubmission:
        return _Pending(self, submission)

    def changing(self) -> AbstractContextManager["RemoteModel"]:
        return nullcontext(self)

    def ask(self, name: str, *arguments: object) -> Any:
        """Calls a method of the model."""
        with self._lock:
            self._test.send((name, arguments))
            answered, value = self._test.recv()
        if not answered:
            raise value
        return value

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self.ask, name)

    def end(self, life: Life) -> None:
        """Sends what became of the process, which ends; not while a thread that nobody waited for has a question."""
        with self._lock:
            self._test.send(life)
            os._exit(0)  # threads of the product wait for work


class _Pending:
    def __init__(self, model: RemoteModel, submission: Submission) -> None:
        self._model = model
        self._submission = submission

    def send(self, within: float) -> SlurmJobId:
        return cast("SlurmJobId", self._model.ask("submit", self._submission, within))

    def abandon(self) -> None:
        """Nothing was prepared."""


class Tracer:
    """Lists the statements of the package that are executed, in all threads, or kills the process at one of them."""

    def __init__(self, fate: Fate) -> None:
        self.points: dict[Point, None] = {}
        self._death = fate.death
        self._lists = fate.lists
        # Other files need not be looked at.
        self._begins = PACKAGE + fate.death.file if isinstance(fate.death, Point) and not fate.lists else PACKAGE

    def start(self) -> None:
        """Begins."""
        threading.settrace(self._call)
        sys.settrace(self._call)

    def _call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        code = frame.f_code
        return self._line if code.co_filename.startswith(self._begins) and code.co_name != "<module>" else None

    def _line(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            point = Point(frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_lineno)
            if self._lists:
                self.points[point] = None
            if isinstance(self._death, int):
                self._death -= 1
            if self._death in (point, 0):
                os.kill(os.getpid(), signal.SIGKILL)
        return self._line


def run(errand: Errand, test: "Connection[object, Any]") -> None:
    """A process: does its errand, and sends the test what became of it."""
    logging.disable()
    # Calls of UCloud are repeated at once, and nobody reads the description of the interface, which takes long to write.
    patch = pytest.MonkeyPatch()
    patch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: None))
    patch.setattr(openapi, "describe", lambda *_: {})
    model = RemoteModel(test, errand.cluster)
    provider = Provider.open(errand.config, now=lambda: errand.now, scheduler=cast("Scheduler", model))
    work = partial(run_once, provider) if errand.request is None else _request(provider, errand.request)
    tracer = Tracer(errand.fate)
    if errand.fate != LIFE:
        tracer.start()
    result = work()
    sys.settrace(None)
    model.end(Life(result, tuple(tracer.points)))


def _request(provider: Provider, request: Request) -> Callable[[], Answer]:
    client = create_app(provider=provider).test_client()

    def work() -> Answer:
        response = client.open(request.path, method=request.method, headers=list(request.headers), data=request.body)
        return Answer(response.status_code, response.data)

    return work
