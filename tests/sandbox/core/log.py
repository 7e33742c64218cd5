"""The log of a job as it came (contract: follow)."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

Json = dict[str, Any]
Stream = Literal["stdout", "stderr"]
Hook = Callable[[float, Json], None]
LOOK_AGAIN = 0.1
"""Seconds after which a waiting thread evaluates its condition again, although nothing came."""


class Log:
    """Messages, and the text in them. Safe for several threads.

    :ivar changed: guards this and whatever belongs with it
    """

    def __init__(self, on_message: Hook | None = None) -> None:
        """Empty.

        :param on_message: see :meth:`Followed.on_message`
        """
        self.changed = threading.Condition()
        self._version = 0
        self._messages: list[Json] = []
        self._chunks: dict[tuple[int, str], list[str]] = defaultdict(list)
        self._hooks: list[Hook] = [] if on_message is None else [on_message]

    def messages(self) -> tuple[Json, ...]:
        """Every payload in order."""
        with self.changed:
            return tuple(self._messages)

    def text(self, rank: int, stream: Stream) -> str:
        """What one node has written."""
        with self.changed:
            chunks = self._chunks[rank, stream]
            chunks[:] = ["".join(chunks)]
            return chunks[0]

    def hook(self, hook: Hook) -> None:
        """See :meth:`Followed.on_message`."""
        with self.changed:
            self._hooks.append(hook)

    def add(self, at: float, payload: Json) -> None:
        """Take a payload, right or wrong, and tell the hooks."""
        with self.changed:
            self._messages.append(payload)
            for stream in ("stdout", "stderr"):
                text, rank = payload.get(stream), payload.get("rank")
                if isinstance(text, str) and text and isinstance(rank, int):
                    self._chunks[rank, stream].append(text)
            hooks = list(self._hooks)
        self.touch()
        for hook in hooks:
            hook(at, payload)

    def touch(self) -> None:
        """Wake the waiting threads."""
        with self.changed:
            self._version += 1
            self.changed.notify_all()

    def wait_for(self, predicate: Callable[[], bool], timeout: float, what: str) -> None:
        """See :meth:`Followed.wait_for`."""
        deadline = time.monotonic() + timeout
        while True:
            with self.changed:
                seen = self._version
            # Without the lock: a big text must not hold up what is coming.
            if predicate():
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"In {timeout} s {what} did not come.")
            with self.changed:
                self.changed.wait_for(partial(self._newer, seen), min(left, LOOK_AGAIN))

    def _newer(self, seen: int) -> bool:
        return self._version != seen
