"""Who may have how much of a process: WebSockets of strangers and of those who are known, their streams and memory.

A stranger is a WebSocket whose token or session is not known yet. These are decisions only; :mod:`.entrance` applies
them.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple, Self

STRANGERS = 256
STRANGERS_PER_ADDRESS = 64
GRACE_SECONDS = 0.25  # a browser sends its first frame within so long; before that nobody takes its place
READERS = 256  # threads that call the file systems of users
DESCRIPTORS_PER_READER = 2  # the connection to the runner, and what it sends
CONNECTIONS = 2048  # of those who are known
STREAM_DESCRIPTORS = 16384  # terminals, notifications and files of logs


class Limits(NamedTuple):
    """What one process holds at most. Their sum leaves a third of the descriptors to the web server and the database."""

    strangers: int
    readers: int
    connections: int
    stream_descriptors: int

    @classmethod
    def within(cls, descriptors: int) -> Self:
        """The limits of a process that may have so many descriptors (getrlimit(2): RLIMIT_NOFILE)."""
        return cls(
            strangers=min(STRANGERS, descriptors // 16),
            readers=min(READERS, descriptors // 16),
            connections=min(CONNECTIONS, descriptors // 5),
            stream_descriptors=min(STREAM_DESCRIPTORS, descriptors // 4),
        )

    @property
    def descriptors(self) -> int:
        """What all of it takes."""
        return self.strangers + self.readers * DESCRIPTORS_PER_READER + self.connections + self.stream_descriptors


class Budget:
    """So much in all, and so much of it for each account. What has no account is bounded by the whole only."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._taken: Counter[str | None] = Counter()
        self.used = 0

    def take(self, account: str | None, amount: int = 1) -> bool:
        """Takes an amount, if both bounds allow it."""
        most = self._total if account is None else self._each
        if self.used + amount > self._total or self._taken[account] + amount > most:
            return False
        self.used += amount
        self._taken[account] += amount
        return True

    def is_used_up_by(self, account: str | None) -> bool:
        """Whether the account has all that one may have."""
        return account is not None and self._taken[account] >= self._each

    def release(self, account: str | None, amount: int = 1) -> None:
        """Gives back what was taken."""
        self.used -= amount
        self._taken[account] -= amount
        if not self._taken[account]:
            del self._taken[account]


@dataclass(slots=True, eq=False)
class Stranger:
    """A WebSocket whose token or session is not known yet.

    :ivar since: when it came
    :ivar silent: whether no call of it is being examined
    """

    address: str | None
    since: float
    silent: bool = True


class Strangers:
    """The strangers of a process.

    Once they are as many as may be, a new one takes the place of one that has been silent: of the address that has
    most of them, and there of the oldest. So a flood displaces itself first, and one from a thousand addresses leaves
    everybody the time to send a first frame.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_per_address = min(STRANGERS_PER_ADDRESS, most)
        self._present: list[Stranger] = []  # the oldest first

    def __len__(self) -> int:
        return len(self._present)

    def admit(self, address: str | None, now: float) -> tuple[Stranger, Stranger | None] | None:
        """Decides about somebody who comes now.

        :param address: None where it is not known; all of those are one
        :returns: the new stranger, and the one who has to go for it; None if nobody has to, and there is no room
        """
        of_address = Counter(stranger.address for stranger in self._present)
        crowd = address is not None and of_address[address] >= self._most_per_address
        leaves = None
        if crowd or len(self._present) >= self._most:
            # No address displaces one that has not more.
            candidates = [
                stranger
                for stranger in self._present
                if stranger.silent
                and now - stranger.since >= GRACE_SECONDS
                and (stranger.address == address or (not crowd and of_address[stranger.address] > of_address[address]))
            ]
            if not candidates:
                return None
            leaves = max(candidates, key=lambda stranger: (of_address[stranger.address], -stranger.since))
            self._present.remove(leaves)
        self._present.append(stranger := Stranger(address, now))
        return stranger, leaves

    def remove(self, stranger: Stranger) -> None:
        """It has gone, or is known now."""
        if stranger in self._present:
            self._present.remove(stranger)


class Pace:
    """How long an account pauses after its work, so that no account keeps the event loop busy for the others.

    :param per_second: units of work, on average
    :param burst: units that need no pause after a time without work
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst_seconds = burst / per_second
        self._until: dict[str, float] = {}  # when the work of an account would be done at that pace

    def pause(self, account: str, work: float, now: float) -> float:
        """Records work of an account.

        :returns: seconds to pause
        """
        until = max(self._until.get(account, now), now) + work / self._per_second
        self._until[account] = until
        return max(until - now - self._burst_seconds, 0.0)

    def forget(self, now: float) -> None:
        """Drops the accounts that have no work left, from time to time."""
        self._until = {account: until for account, until in self._until.items() if until > now}


def common_address(header: str | None) -> str | None:
    """What the addresses of one customer of a network have in common: an IPv4 address, or the /64 of an IPv6 address.

    :param header: X-Real-IP as the proxy sends it
    :returns: None if it is no address
    """
    try:
        address = ipaddress.ip_address((header or "").strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)
