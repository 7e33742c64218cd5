"""People to whom UCloud shows a form will soon start a job: their programs are started before they are needed."""

import logging
import threading
import time
from functools import partial

from ucloud_slurm.errors import NotNow, Problem
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.breaker import RUNNER, person
from ucloud_slurm.system.executor import FairExecutor

log = logging.getLogger(__name__)

KNOWN_SECONDS = 0.01  # too few for a program of the site's that maps users; what it has answered before is kept
AGAIN_SECONDS = 30.0  # in which nothing more is done for the same person; a program is kept for longer
MOST_KNOWN = 1024  # people who are remembered for that
MOST_WAITING = 32  # people who wait; for a further one nothing is done


class Greeter:
    """Has programs started, in a thread of its own: no call waits for it, and none fails because of it."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._maps = provider.config.users.mapping != "service"
        self._executor = FairExecutor(1)
        self._lock = threading.Lock()
        self._again: dict[str, float] = {}  # monotonic seconds, by user of UCloud; the one who comes first is forgotten first
        self._waiting = 0

    def greet(self, username: str | None) -> None:
        """Has the program of a person started, if there is time and room for it. Never waits.

        :param username: of UCloud; None: nobody is named
        """
        if username is None or not self._maps:
            return
        now = time.monotonic()
        with self._lock:
            if now < self._again.get(username, now) or self._waiting >= MOST_WAITING:
                return
            self._again.pop(username, None)
            self._again[username] = now + AGAIN_SECONDS
            if len(self._again) > MOST_KNOWN:
                del self._again[next(iter(self._again))]
            self._waiting += 1
        try:
            self._executor.submit(username, partial(self._wake, username)).add_done_callback(lambda _: self._done())
        except RuntimeError:  # the host gives no thread
            self._done()

    def _done(self) -> None:
        with self._lock:
            self._waiting -= 1

    def _wake(self, username: str) -> None:
        provider = self._provider
        try:
            # A site's program that has not answered lately is not asked, so that nothing is written: calls would wait for that.
            user = provider.mapping.identity(username, None, KNOWN_SECONDS).person.user
            breaker, now = provider.breaker, provider.now()
            if breaker.allows(RUNNER, now) and breaker.allows(person(user), now):
                provider.impersonation(user).wake()
        except (NotNow, Problem) as error:  # such as somebody who is not connected
            log.debug("no program is started before it is needed: %s", error)
