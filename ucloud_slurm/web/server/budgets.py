"""Budgets of one process of the web service: threads, waiting requests and bytes, for each class of callers."""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

from ucloud_slurm.web.server.requests import Caller, RequestClass

MiB = 1024 * 1024
READ_BYTES = 256 * 1024  # of a connection at a time
MOST_CONNECTIONS = 4096  # more than all budgets together, so that accepting never stops
EXHAUSTED_SECONDS = 0.25  # without descriptors, until the next connection is accepted
STOP_SECONDS = 3.0  # for a connection without a whole request, when the process stops
HEAD_SECONDS = 10.0  # for a head to be whole
BODY_SECONDS = 20.0  # for a body to be whole
CLOSE_SECONDS = 2.0  # for the other side to close, after the last answer
SEND_SECONDS = 15.0  # for the other side to take an answer
MOST_HEADS = 512  # connections whose head is not whole
MOST_IDLE = 512
MOST_CLOSING = 512
RETRY_SECONDS = 2  # what Retry-After says

T = TypeVar("T", bound=Hashable)


class Share(NamedTuple):
    """What a class of callers has in one process.

    :ivar threads: requests that are answered at the same time
    :ivar each: of the threads for one of the class
    :ivar waiting: requests that have a thread or wait for one, or for the rest of their body
    :ivar waiting_each: of these for one of the class
    :ivar body_bytes: of one request; a longer body is not read
    :ivar all_bytes: of the bodies of all of them
    """

    threads: int
    each: int
    waiting: int
    waiting_each: int
    body_bytes: int
    all_bytes: int


def shares(threads: int, largest_bytes: int) -> Mapping[RequestClass, Share]:
    """Splits the threads of a process: half of them are UCloud's.

    :param largest_bytes: of a request of UCloud's
    """
    browsers, strangers, operators = max(threads // 4, 1), max(threads // 6, 1), max(threads // 16, 1)
    ucloud = max(threads - browsers - strangers - operators, 1)
    small = 64 * 1024
    return {
        RequestClass.UCLOUD: Share(ucloud, ucloud, 512, 512, largest_bytes, 4 * largest_bytes),
        RequestClass.BROWSER: Share(browsers, max(browsers - 1, 1), 256, 64, small, 4 * MiB),
        RequestClass.STRANGER: Share(strangers, max(strangers - 1, 1), 512, 256, small, 8 * MiB),
        RequestClass.OPERATOR: Share(operators, operators, 16, 16, small, MiB),
    }


class Budgets:
    """What of the shares is taken. Browsers at one address have half of their share at most, whatever sessions they name."""

    def __init__(self, shares: Mapping[RequestClass, Share]) -> None:
        self._shares = shares
        self._taken: Counter[RequestClass] = Counter()
        self._by_caller: Counter[Caller] = Counter()
        self._by_address: Counter[tuple[RequestClass, str]] = Counter()
        self._bytes: Counter[RequestClass] = Counter()

    def take(self, caller: Caller, body_bytes: int) -> bool:
        """Takes room for a request; False where there is none, and nothing is taken.

        :param body_bytes: of its body, as far as it is read
        """
        share = self._shares[caller.kind]
        if (
            self._taken[caller.kind] >= share.waiting
            or self._by_caller[caller] >= share.waiting_each
            or (caller.address and self._by_address[caller.kind, caller.address] >= share.waiting // 2)
            or (body_bytes and self._bytes[caller.kind] + body_bytes > share.all_bytes)
        ):
            return False
        self._taken[caller.kind] += 1
        self._by_caller[caller] += 1
        self._by_address[caller.kind, caller.address] += 1
        self._bytes[caller.kind] += body_bytes
        return True

    def give_back(self, caller: Caller, body_bytes: int) -> None:
        """Gives back what :meth:`take` took."""
        self._taken[caller.kind] -= 1
        self._bytes[caller.kind] -= body_bytes
        _subtract(self._by_caller, caller)
        _subtract(self._by_address, (caller.kind, caller.address))


def _subtract(counter: Counter[T], key: T) -> None:
    """Takes one away; an entry of zero goes. Counter's own subtraction looks at all entries."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


class Waiting(Generic[T]):
    """Things with the same time limit, oldest first.

    :param seconds: how long each may stay
    :param most: how many there may be
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._until: OrderedDict[T, float] = OrderedDict()

    def add(self, thing: T, now: float) -> T | None:
        """Adds one; gives the oldest where there are too many, which is removed."""
        self._until[thing] = now + self._seconds
        return self._until.popitem(last=False)[0] if len(self._until) > self._most else None

    def remove(self, thing: T) -> None:
        """Removes one that is there."""
        del self._until[thing]

    def hurry(self, until: float) -> None:
        """Sets an earlier limit for all of them."""
        for thing, limit in self._until.items():
            self._until[thing] = min(limit, until)

    def expired(self, now: float) -> list[T]:
        """Removes those whose time is over."""
        over = []
        while self._until and next(iter(self._until.values())) <= now:
            over.append(self._until.popitem(last=False)[0])
        return over

    def __len__(self) -> int:
        return len(self._until)
