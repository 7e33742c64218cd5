"""The record of what Core and the provider said to each other, as it happens."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

Direction = Literal["core->provider", "provider->core"]
Phase = Literal["request", "response"]
Watcher = Callable[[Phase, "Exchange"], None]
Hook = Callable[["Exchange"], None]

Kept = TypeVar("Kept")

SECRETS = frozenset({"refreshToken", "accessToken"})


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer.

    :ivar number: counts from 0 in the order of the requests
    :ivar time: seconds since the epoch by Core's clock, when the request came or left
    :ivar call: full name, such as ``jobs.control.update`` or ``jobs.provider.example.create``
    :ivar request: the body, or the query of a GET; tokens are blanked
    :ivar status: HTTP status of the answer; 0 while there is none
    :ivar response: the answer's JSON object, or None
    :ivar job_ids: the jobs it is about, in the order of the items, each once
    :ivar delivered: whether the answer left Core, or came from the provider
    :ivar username: the acting user, where Core named one
    """

    number: int
    time: float
    direction: Direction
    call: str
    request: dict[str, Any]
    status: int = 0
    response: dict[str, Any] | None = None
    job_ids: tuple[str, ...] = ()
    delivered: bool = False
    username: str | None = None


class Exchanges:
    """All exchanges of a Core, and those who watch them. Safe for several threads."""

    def __init__(self, changed: threading.Condition, incoming: Collection[str], now: Callable[[], float] = time.time) -> None:
        """Nothing was said yet.

        :param incoming: names of the calls that the provider may make
        """
        self._changed = changed
        self._incoming = incoming
        self._now = now
        self._all: list[Exchange] = []
        self._watchers: list[Watcher] = []
        self._hooks: list[tuple[str, Hook]] = []

    def all(self) -> list[Exchange]:
        """A copy of the record, by number. Those still under way have the status 0."""
        with self._changed:
            return list(self._all)

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Have a function called with ``("request", exchange)`` and ``("response", exchange)``.

        The first before the work is done, the second before the answer leaves or after it came. Called in
        the thread of the exchange, so several calls may be under way at once.

        :return: call it to stop
        """
        return self._add(self._watchers, callback)

    def before_answer(self, call: str, hook: Hook) -> Callable[[], None]:
        """Have a function called each time before the answer to a call of the provider leaves, in its thread.

        :param call: full name, such as ``jobs.control.chargeCredits``
        :return: call it to stop
        """
        if call not in self._incoming:
            raise ValueError(f"The provider makes no call named {call!r}.")
        return self._add(self._hooks, (call, hook))

    def begin(self, direction: Direction, call: str, request: Mapping[str, Any], username: str | None = None) -> Exchange:
        """Record a request and tell the watchers."""
        with self._changed:
            exchange = Exchange(
                number=len(self._all),
                time=self._now(),
                direction=direction,
                call=call,
                request=blanked(request),
                job_ids=_job_ids(request),
                username=username,
            )
            self._all.append(exchange)
            watchers = list(self._watchers)
            self._changed.notify_all()
        for watcher in watchers:
            watcher("request", exchange)
        return exchange

    def end(self, exchange: Exchange, status: int, response: Any, *, delivered: bool) -> Exchange:
        """Record the answer, tell the watchers and then run the hooks."""
        whole = replace(
            exchange, status=status, response=blanked(response) if isinstance(response, dict) else None, delivered=delivered
        )
        with self._changed:
            self._all[exchange.number] = whole
            watchers = list(self._watchers)
            hooks = [hook for call, hook in self._hooks if call == whole.call]
            self._changed.notify_all()
        for watcher in watchers:
            watcher("response", whole)
        if whole.direction == "provider->core":
            for hook in hooks:
                hook(whole)
        return whole

    def _add(self, to: list[Kept], what: Kept) -> Callable[[], None]:
        def remove() -> None:
            with self._changed:
                if what in to:
                    to.remove(what)

        with self._changed:
            to.append(what)
        return remove


def blanked(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message without the tokens in it. They have no business in a printed table."""
    return {key: "(secret)" if key in SECRETS and isinstance(value, str) else _blanked(value) for key, value in message.items()}


def _blanked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return blanked(value)
    return [_blanked(item) for item in value] if isinstance(value, list) else value


def _job_ids(request: Mapping[str, Any]) -> tuple[str, ...]:
    items = request.get("items")
    found = [_job_id(item) for item in items] if isinstance(items, list) else [_job_id(request)]
    return tuple(dict.fromkeys(id_ for id_ in found if isinstance(id_, str)))


def _job_id(item: Any) -> Any:
    """Of a Job, an update, a charge; of ``{"job": Job}`` and ``{"resource": Job}``."""
    if not isinstance(item, Mapping):
        return None
    inner = item.get("job") or item.get("resource")
    return inner.get("id") if isinstance(inner, Mapping) else item.get("id")
