"""Whose turn it is to submit: so many submissions at a time in one process, and fair between accounts."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import zip_longest
from typing import TypeVar

T = TypeVar("T")
Task = tuple["Future[None]", Callable[[], object]]


class FairExecutor:
    """A few threads that do what is given to them, for one account after the other.

    Whoever gives a thousand things to do delays somebody who gives one by one of them, not by a thousand. What has
    begun goes on when nobody waits for it any more. The threads begin when they are needed, and do not keep a process
    from ending.
    """

    def __init__(self, most: int) -> None:
        """Begins nothing yet.

        :param most: threads
        """
        self._most = most
        self._threads = 0
        self._idle = 0
        self._tasks = 0
        self._waiting: dict[str, deque[Task]] = {}  # the account whose turn is next comes first
        self._changed = threading.Condition()
        self._closed = False

    def submit(self, user: str, work: Callable[[], object]) -> "Future[None]":
        """Has something done when it is this account's turn.

        :raises RuntimeError: no thread can be started, and there is none
        :returns: which can be cancelled as long as the work has not begun
        """
        future: Future[None] = Future()
        with self._changed:
            if self._tasks + 1 > self._idle and self._threads < self._most:
                self._begin_thread()
            self._waiting.setdefault(user, deque()).append((future, work))
            self._tasks += 1
            self._changed.notify()
        return future

    def _begin_thread(self) -> None:
        try:
            threading.Thread(target=self._serve, name="submit", daemon=True).start()
        except RuntimeError:  # the host gives no more; those that are there do it
            if not self._threads:
                raise
        else:
            self._threads += 1

    def close(self) -> None:
        """Begins nothing any more; the threads end with what they do."""
        with self._changed:
            self._closed = True
            for tasks in self._waiting.values():
                for future, _ in tasks:
                    future.cancel()
            self._waiting.clear()
            self._changed.notify_all()

    def _serve(self) -> None:
        while (task := self._next()) is not None:
            future, work = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                work()
            except BaseException as error:  # noqa: BLE001  it belongs to whoever waits
                future.set_exception(error)
            else:
                future.set_result(None)
            del future, work, task

    def _next(self) -> Task | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._idle -= 1
            if self._closed:
                return None
            user = next(iter(self._waiting))
            tasks = self._waiting.pop(user)
            task = tasks.popleft()
            self._tasks -= 1
            if tasks:
                self._waiting[user] = tasks  # behind the others
            return task


def round_robin(things: Iterable[T], account: Callable[[T], str]) -> list[T]:
    """The same things, one of each account after the other; those of one account stay in order."""
    of: dict[str, list[T]] = {}
    for thing in things:
        of.setdefault(account(thing), []).append(thing)
    nothing = object()
    return [thing for row in zip_longest(*of.values(), fillvalue=nothing) for thing in row if thing is not nothing]  # type: ignore[misc]
