"""The binary messages of the channel on which UCloud reports changes of wallets, projects and users.

A message has several records. Users, projects and categories get numbers, by which later records of the same connection
refer to them. Integers are big-endian; a text is its length in bytes, and UTF-8. A message that cannot be parsed ends
the connection, because its records may have defined numbers that later records use.
"""

import json
import struct
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Self

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_RECORDS = 100_000  # of a message
LAST_MS = 253_402_300_799_000  # the end of the year 9999

LOCKED, OF_PROJECT = 1, 2  # flags of a wallet


class ProtocolError(Exception):
    """A message that does not follow the protocol."""


class _Op(IntEnum):
    """The kind of a record, by its first byte."""

    AUTH = 0
    WALLET = 1
    PROJECT = 2
    CATEGORY = 3
    USER = 4


class OwnerKind(StrEnum):
    """The kind of a wallet's owner."""

    USER = "user"
    PROJECT = "project"


class Payer(NamedTuple):
    """The wallet that pays for jobs in a category: of a project, or of a user for jobs without a project.

    :ivar owner: the user's name, or the project's id
    """

    kind: OwnerKind
    owner: str
    category: str

    @classmethod
    def of(cls, owner: str, project: str | None, category: str) -> Self:
        """The wallet that pays for a job."""
        kind = OwnerKind.USER if project is None else OwnerKind.PROJECT
        return cls(kind, owner if project is None else project, category)


class User(NamedTuple):
    """A user."""

    username: str


class Project(NamedTuple):
    """A project, as it is now.

    :ivar modified_at: seconds since the epoch
    :ivar consumes: whether it may use resources; other projects only pass them on
    :ivar members: names of its users
    """

    id: str
    title: str
    modified_at: float
    consumes: bool
    members: tuple[str, ...]


class CategoryRecord(NamedTuple):
    """A category of products, and the provider that it belongs to."""

    name: str
    provider: str


class Wallet(NamedTuple):
    """What an owner has in a category.

    :ivar provider: the provider of the category
    :ivar consumes: False for a project that may not use resources itself
    :ivar quota: in units of the category
    :ivar usage: in units of the category
    :ivar locked: nothing of the quota is left
    :ivar changed_at: time of the last change that matters, in seconds since the epoch
    """

    payer: Payer
    provider: str
    consumes: bool
    quota: int
    usage: int
    locked: bool
    changed_at: float


Record = User | Project | CategoryRecord | Wallet


class Reader:
    """Parses the messages of one connection. It cannot be used after a :class:`ProtocolError`."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._projects: dict[int, tuple[str, bool]] = {}  # without the members, which are many
        self._categories: dict[int, CategoryRecord] = {}

    def records(self, message: bytes) -> Iterator[Record]:
        """The records of a message, in order. Those before an invalid one are still returned.

        :raises ProtocolError: a record is invalid
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"A message of UCloud's has {len(message)} bytes, more than {MAX_MESSAGE_BYTES}.")
        rest, number = _Remainder(message), 0
        while rest.left:
            number += 1
            if number > MAX_RECORDS:
                raise ProtocolError(f"A message of UCloud's has more than {MAX_RECORDS} records.")
            yield self._record(rest)

    def _record(self, rest: "_Remainder") -> Record:
        op, number = rest.number("B"), rest.number("I")
        match op:
            case _Op.USER:
                name = self._users[number] = _filled(rest.text(), "a user's name")
                return User(name)
            case _Op.PROJECT:
                modified_at = rest.number("q") / 1000
                project = _project(rest.object("a project"), modified_at)
                self._projects[number] = project.id, project.consumes
                return project
            case _Op.CATEGORY:
                data = rest.object("a category")
                category = CategoryRecord(_text(data, "name"), _text(data, "provider"))
                self._categories[number] = category
                return category
            case _Op.WALLET:
                return self._wallet(number, rest)
        raise ProtocolError(f"A message of UCloud's has a record of the unknown kind {op}.")

    def _wallet(self, workspace: int, rest: "_Remainder") -> Wallet:
        category = self._categories.get(rest.number("I"))
        quota, usage, flags = rest.number("q"), rest.number("q"), rest.number("I")
        changed_at = rest.number("q") / 1000
        project = self._projects.get(workspace) if flags & OF_PROJECT else None
        user = self._users.get(workspace) if not flags & OF_PROJECT else None
        if category is None or (project is None and user is None):
            raise ProtocolError("A message of UCloud's has a wallet whose owner or category was not defined before.")
        owner, consumes = project or (user or "", True)
        payer = Payer(OwnerKind.PROJECT if project else OwnerKind.USER, owner, category.name)
        # UCloud sets the flag when exactly nothing is left, and not when the quota is exceeded.
        locked = bool(flags & LOCKED) or usage > quota
        return Wallet(payer, category.provider, consumes, quota, usage, locked, changed_at)


def auth_frame(replay_from_ms: int, token: str, flags: int = 0) -> bytes:
    """The first message that is sent on a connection.

    :param replay_from_ms: UCloud repeats the changes since then; milliseconds since the epoch
    :param token: access token
    :param flags: bit 0 asks for longer wallet records, which cannot be parsed here
    """
    # UCloud asks its database for this time, and ends where that has no such time.
    return struct.pack(">BqQ", _Op.AUTH, min(max(0, replay_from_ms), LAST_MS), flags) + _packed(token)


def _packed(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">I", len(data)) + data


class _Remainder:
    """The part of a message that is not parsed yet."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Its size in bytes."""
        return len(self._data) - self._at

    def number(self, kind: str) -> int:
        """Parses an integer.

        :param kind: its format character (module struct)
        :raises ProtocolError: the message ends within it
        """
        found = struct.unpack(f">{kind}", self._take(struct.calcsize(f">{kind}")))[0]
        return int(found)

    def text(self) -> str:
        """Parses a text.

        :raises ProtocolError: the message ends within it, or it is not UTF-8
        """
        try:
            return self._take(self.number("I")).decode()
        except UnicodeDecodeError:
            raise ProtocolError("A message of UCloud's has a text that is not UTF-8.") from None

    def object(self, what: str) -> dict[str, Any]:
        """Parses a text that is a JSON object.

        :raises ProtocolError: it is none
        """
        try:
            data = json.loads(self.text())
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise ProtocolError(f"A message of UCloud's has {what} that is not a JSON object.")
        return data

    def _take(self, size: int) -> bytes:
        if size > self.left:
            raise ProtocolError("A message of UCloud's ends in the middle of a record.")
        self._at += size
        return self._data[self._at - size : self._at]


def _project(data: dict[str, Any], modified_at: float) -> Project:
    specification, status = data.get("specification"), data.get("status")
    specification = specification if isinstance(specification, dict) else {}
    members = status.get("members") if isinstance(status, dict) else None
    names = (
        [_text(member, "username") for member in members or [] if isinstance(member, dict)] if isinstance(members, list) else []
    )
    title = specification.get("title")
    consumes = specification.get("canConsumeResources") is not False
    return Project(_text(data, "id"), _encodable(title) if isinstance(title, str) else "", modified_at, consumes, tuple(names))


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return _filled(value if isinstance(value, str) else "", key)


def _filled(text: str, what: str) -> str:
    if not text:
        raise ProtocolError(f"A message of UCloud's has a record in which {what} is missing.")
    return _encodable(text)


def _encodable(text: str) -> str:
    """The text; JSON can contain half surrogates, which the database cannot store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ProtocolError("A message of UCloud's has a text with half a character.") from None
    return text
