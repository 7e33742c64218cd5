"""The WebSockets that a simulated Core and its users have open, and their end."""

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from tests.sandbox.core.channel import Channel
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import ProviderAwayError
from tests.sandbox.core.provider import ProviderCalls, encoded_username
from tests.sandbox.core.websocket import Socket

STREAM_IDS = itertools.count()
"""Ids of the streams that Core opens: one counter for the whole process."""


class Closable(Protocol):
    """What :meth:`Sockets.close` ends."""

    @property
    def idle(self) -> bool:
        """Whether its threads have ended, so that it need not be closed."""

    def close(self) -> None:
        """End it. A second time does nothing."""


class Sockets:
    """Dials, shares and closes. Safe for several threads."""

    def __init__(
        self,
        calls: ProviderCalls,
        era: CoreEra,
        complain: Callable[[str], None],
        crashed: Callable[[str], None],
        timeout: float,
    ) -> None:
        self._calls = calls
        self._era = era
        self._complain = complain
        self._crashed = crashed
        self._timeout = timeout
        self._lock = threading.Lock()
        self._users: list[Closable] = []
        self._connections: list[Closable] = []
        self._shared: dict[tuple[str, str], Channel] = {}
        self._dialling: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)

    def socket(self, path: str, user: str | None, headers: Mapping[str, str] | None = None) -> Socket:
        """A connection of its own, which :meth:`close` ends if nobody else does.

        :param user: acting user
        :raises CoreError: see :class:`Socket`
        """
        socket = self._dial(path, user, headers)
        self._keep(socket)
        return socket

    def channel(self, path: str, headers: Mapping[str, str], stream_ids: Iterator[int], base: str | None = None) -> Channel:
        """A connection of its own that carries calls. See :meth:`socket`.

        :param base: another address than the provider's
        """
        channel = Channel(self._dial(path, None, headers, base), stream_ids, self._complain, self._crashed)
        self._keep(channel)
        return channel

    def shared(self, path: str, user: str) -> Channel:
        """Core's connection for a user, which is used again as long as it lives.

        :raises CoreError: see :class:`Socket`
        """
        key = (f"{self._calls.url}{path}", user)
        with self._lock:
            dialling = self._dialling[key]
        with dialling:
            with self._lock:
                known = self._shared.get(key)
            if known is not None and not known.closed:
                return known
            made = Channel(self._dial(path, user, None), STREAM_IDS, self._complain, self._crashed)
            self._keep(made)
            with self._lock:
                self._shared[key] = made
            return made

    def keep_user(self, user: Closable) -> None:
        """Have somebody who uses connections ended by :meth:`close`."""
        with self._lock:
            self._users = [each for each in self._users if not each.idle]
            self._users.append(user)

    def close(self) -> None:
        """End everything: first those who would connect again, then the connections."""
        with self._lock:
            users, self._users = self._users, []
        for user in users:
            user.close()
        with self._lock:
            connections, self._connections = self._connections, []
            self._shared.clear()
        for connection in connections:
            connection.close()

    def _keep(self, connection: Closable) -> None:
        with self._lock:
            self._connections = [each for each in self._connections if not each.idle]
            self._connections.append(connection)

    def _dial(self, path: str, user: str | None, headers: Mapping[str, str] | None, base: str | None = None) -> Socket:
        if self._calls.url is None:
            raise ProviderAwayError("No provider is connected")
        all_headers = {name: value.encode() for name, value in (headers or {}).items()}
        if user is not None:
            all_headers["UCloud-Username"] = encoded_username(user, self._era)
        return Socket(base or self._calls.url, path, all_headers, self._timeout)
