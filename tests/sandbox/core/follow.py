"""A user who looks at the log of a job, and what Core does for that (contract: follow)."""

import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.sandbox.core.channel import Channel
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.exchanges import Exchange, Exchanges
from tests.sandbox.core.frames import CLOSED_EARLY, UNREACHABLE, ResponseFrame
from tests.sandbox.core.jobs import CoreJob
from tests.sandbox.core.log import Hook, Log, Stream
from tests.sandbox.core.websocket import Socket

Json = dict[str, Any]
LOOK_AGAIN = 0.1
"""Seconds between two looks at the state of a job."""


@dataclass(frozen=True, slots=True)
class FollowContext:
    """What following needs of Core.

    :ivar call: full name of follow
    :ivar job: the job of an id
    :ivar render: the Job that is sent
    :ivar channel: the connection of a user, which is shared
    :ivar dial: makes a connection for one look of a user at a log
    :ivar bearer: makes a token
    :ivar introduce: tells the provider about a user whom it does not know
    """

    call: str
    job: Callable[[str], CoreJob]
    render: Callable[[CoreJob], Json]
    channel: Callable[[str], Channel]
    dial: Callable[[str], Socket]
    bearer: Callable[[], str]
    introduce: Callable[[str], None]
    exchanges: Exchanges
    complain: Callable[[str], None]
    crashed: Callable[[str], None]

    def frame(self) -> Json:
        """The fields that a frame of Core has besides its call, stream and payload."""
        return {"bearer": self.bearer(), "causedBy": None, "project": None}

    def said(self, exchange: Exchange, frame: ResponseFrame) -> None:
        """Record a response."""
        heard = frame.status not in (CLOSED_EARLY, UNREACHABLE)
        self.exchanges.end(exchange, frame.status, frame.payload, delivered=heard)


class Followed(ABC):
    """What came of a job's log so far. Safe for several threads; made by :meth:`SimulatedCore.follow`.

    An era's way of following is in a subclass: one stream, and when another one begins.
    """

    def __init__(
        self, context: FollowContext, job: CoreJob, user: str, *, while_running: bool, on_message: Hook | None = None
    ) -> None:
        """Begin."""
        self._context = context
        self._job_id = job.id
        self._replicas = int(job.specification["replicas"])
        self._user = user
        self._while_running = while_running
        self._log = Log(on_message)
        self._changed = self._log.changed
        self._response: ResponseFrame | None = None
        self._inits = 0
        self._pings = 0
        self._error: CoreError | None = None
        self._over = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"simulated-core-follow-{job.id}")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    # -- what came ------------------------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[Json, ...]:
        """Every payload in order, of all subscriptions; the announcements too."""
        return self._log.messages()

    def text(self, rank: int = 0, stream: Stream = "stdout") -> str:
        """What one node of the job has written, of all subscriptions one after the other."""
        return self._log.text(rank, stream)

    @property
    def response(self) -> ResponseFrame | None:
        """With which the provider ended the stream, the last one if there were several; None while none did.

        Its status is 499 when the connection ended instead, and 502 when there was none.
        """
        with self._changed:
            return self._response

    @property
    def session(self) -> str | None:
        """The id that the provider announced in the first message of the newest stream; None while it has not."""
        return None

    @property
    def inits(self) -> int:
        """How often an init was sent."""
        with self._changed:
            return self._inits

    @property
    def pings(self) -> int:
        """How often the provider kept the connection while a stream of this was open."""
        with self._changed:
            return self._pings

    @property
    def error(self) -> CoreError | None:
        """Why Core gave up, if it did: five times 449 or 503, or a user whom the provider will not know."""
        with self._changed:
            return self._error

    @property
    def ended(self) -> bool:
        """Whether nothing more will come: see :meth:`wait_end`."""
        with self._changed:
            return self._over

    @property
    def idle(self) -> bool:
        """Whether its thread has ended."""
        return not self._thread.is_alive()

    def on_message(self, hook: Hook) -> None:
        """Have a function called with each payload from now on, in the thread that reads the connection.

        :param hook: gets the time by the monotonic clock in seconds, when the frame was there, and the payload
        """
        self._log.hook(hook)

    def wait_for(self, predicate: Callable[[], bool], timeout: float = 10.0, what: str = "it") -> None:
        """Wait until something is so. It is asked whenever something came, and each 100 ms; nothing is held up.

        :param timeout: seconds
        :param what: what is waited for, for the error
        :raises TimeoutError: naming it
        """
        self._log.wait_for(predicate, timeout, f"{what} from job {self._job_id}")

    def wait_end(self, timeout: float = 10.0) -> ResponseFrame | None:
        """Wait until nothing more will come: the stream has ended, and while_running the job has too.

        :param timeout: seconds
        :return: the last response; None when there was no stream at all
        :raises TimeoutError: when more may come
        :raises CoreError: see :attr:`error`
        """
        self.wait_for(lambda: self.ended, timeout, "the end of the log")
        with self._changed:
            if self._error is not None:
                raise self._error
            return self._response

    # -- what the user does ---------------------------------------------------------------------------------

    def cancel(self, session: str | None = None, timeout: float = 10.0) -> ResponseFrame:
        """Ask the provider to end the stream. There will be no other.

        The stream's own end is another response; what comes before it is still taken.

        :param session: the one that was announced unless given
        :param timeout: seconds for the response
        :return: the response to the cancel itself
        :raises ValueError: before a session was announced; always in an era that has none
        :raises TimeoutError: when the provider does not respond
        """
        raise ValueError(f"No session has been announced for job {self._job_id} yet.")

    def close(self) -> None:
        """Look no more. As at Core nobody tells the provider, and the connection stays."""
        self._closing.set()
        self._log.touch()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # -- what Core does -------------------------------------------------------------------------------------

    @abstractmethod
    def _follow_running(self) -> None:
        """Have one stream after the other, as long as the era's Core looks at this job."""

    @abstractmethod
    def _subscribe(self) -> None:
        """Have one stream, to its end.

        :raises CoreError: when the provider will not know the user
        """

    def _run(self) -> None:
        try:
            if self._while_running:
                self._follow_running()
            else:
                self._subscribe()
        except CoreError as error:
            with self._changed:
                self._error = error
        except BaseException:  # noqa: BLE001  must reach the test
            self._context.crashed(traceback.format_exc())
        finally:
            with self._changed:
                self._over = True
            self._log.touch()

    def _take(self, at: float, payload: Json) -> None:
        if not self._closing.is_set():
            self._log.add(at, payload)

    def _count_ping(self) -> None:
        with self._changed:
            self._pings += 1
        self._log.touch()
