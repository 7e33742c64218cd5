"""What the service counts and measures, for ``/metrics`` (Prometheus): UCloud's calls, create, calls to Slurm and UCloud.

Where ``PROMETHEUS_MULTIPROC_DIR`` is set, the processes of the service keep their histograms in files of that directory
and each of them shows the sum (prometheus_client: multiprocess mode). Elsewhere a process shows its own.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.provider.context import Lazy, Provider
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.slurm.scheduler import Changes, PendingSubmission, Scheduler
from ucloud_slurm.system.process import Start

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# UCloud waits for 5 s; every call of it is to be answered within 3 s.
BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10)
# The calls that the service makes: methods of Scheduler and of Core; submit is the sending of a submission.
SLURM_QUESTIONS = ("accounts", "is_operator", "job", "load", "nodes", "partitions", "some")
SLURM_CHANGES = ("cancel", "resume", "set_time_limit", "submit", "suspend")
UCLOUD_CALLS = ("job", "product")
OUTCOMES = ("answered", "refused", "unauthenticated", "failed")  # of UCloud's calls
UNAUTHENTICATED = 401

F = TypeVar("F", bound=Callable[..., Any])

# A time of creation for each histogram has no meaning for several processes together.
disable_created_metrics()  # type: ignore[no-untyped-call]


def timed(call: F, histogram: Histogram) -> F:
    """The same call; its duration is observed, whether it returns or raises."""

    def measured(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            histogram.observe(time.perf_counter() - begin)

    return cast("F", measured)


def outcome_of(status: int) -> str:
    """Which of :data:`OUTCOMES` an HTTP status is."""
    if status == UNAUTHENTICATED:
        return "unauthenticated"
    return "answered" if status < 400 else "refused" if status < 500 else "failed"


class TimedCalls:
    """Delegates everything to an object, and measures some of its methods.

    :param histograms: by the name of the method
    """

    def __init__(self, target: Any, histograms: Mapping[str, Histogram]) -> None:
        self._target = target
        self._histograms = histograms

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        histogram = self._histograms.get(name)
        return attribute if histogram is None else timed(attribute, histogram)


class TimedScheduler(TimedCalls):
    """Delegates to a Scheduler. Of a submission it measures what Slurm takes, from the sending to the answer."""

    def start(self, submission: Submission, as_user: Start) -> PendingSubmission:
        pending = self._target.start(submission, as_user)
        return cast("PendingSubmission", TimedCalls(pending, {"send": self._histograms["submit"]}))

    @contextmanager
    def changing(self) -> Iterator[Changes]:
        with self._target.changing() as changes:
            yield cast("Changes", TimedCalls(changes, self._histograms))


class Durations:
    """The histograms of one application.

    :ivar create: of UCloud's call create
    :raises Misconfigured: ``PROMETHEUS_MULTIPROC_DIR`` is set to what is not a directory that this account may write
    """

    def __init__(self) -> None:
        folder = os.environ.get(VARIABLE)
        if folder is not None and not os.access(f"{folder}/", os.W_OK | os.X_OK):
            why = f"{folder} is not a directory that this account may write; create it, or unset the variable."
            raise Misconfigured([f"{VARIABLE}: {why}"])
        self._registry = CollectorRegistry()
        self.create = Histogram(
            "ucloud_slurm_create_duration_seconds",
            "Duration of UCloud's create calls.",
            registry=self._registry,
            buckets=BUCKETS_SECONDS,
        )
        self._slurm = self._by_call("slurm", "Duration of the service's calls to Slurm.", (*SLURM_QUESTIONS, *SLURM_CHANGES))
        self._ucloud = self._by_call("ucloud", "Duration of the service's calls to UCloud.", UCLOUD_CALLS)
        calls = Counter(
            "ucloud_slurm_calls",
            "UCloud's calls: answered (2xx), refused (4xx), without a valid token (401), or failed (5xx).",
            ["outcome"],
            registry=self._registry,
        )
        self._calls = {each: calls.labels(each) for each in OUTCOMES}
        self._websockets = Gauge(
            "ucloud_slurm_websockets",
            "Open WebSockets: of strangers, whose token or session is not known yet, and of those who are known.",
            ["class"],
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.websockets(0, 0)
        self._shown = self._registry
        if folder is not None:
            self._shown = CollectorRegistry()
            MultiProcessCollector(self._shown)  # type: ignore[no-untyped-call]

    def websockets(self, strangers: int, known: int) -> None:
        """Records how many WebSockets this process holds."""
        self._websockets.labels("stranger").set(strangers)
        self._websockets.labels("known").set(known)

    def call(self, status: int) -> None:
        """Counts a call of UCloud's by the HTTP status of its answer."""
        self._calls[outcome_of(status)].inc()

    def _by_call(self, part: str, meaning: str, calls: tuple[str, ...]) -> dict[str, Histogram]:
        name = f"ucloud_slurm_{part}_call_duration_seconds"
        family = Histogram(name, meaning, ["call"], registry=self._registry, buckets=BUCKETS_SECONDS)
        return {call: family.labels(call) for call in calls}

    def measure(self, provider: Provider) -> Provider:
        """The same provider, whose calls to Slurm and to UCloud are measured."""
        return replace(
            provider,
            scheduler=cast("Scheduler", TimedScheduler(provider.scheduler, self._slurm)),
            lazy_core=Lazy(lambda: cast("Any", TimedCalls(provider.core, self._ucloud))),
        )

    def exposition(self) -> bytes:
        """The histograms in the text format of Prometheus."""
        return generate_latest(self._shown)
