"""The gate in front of every call to UCloud: what is sent, what is cleaned first, and what is refused. Pure.

Today's UCloud does not tell a broken database from a value that its database refuses: it repeats the statement for
twenty seconds, and then its process ends, for all providers (``continueTx`` in shared/pkg/database/database.go). So a
request holds only what each column, index and reference behind it can hold. :class:`Request` is the only thing that a
client sends, and only this module makes one. Some calls depend on what was done before, and need a proof of it.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from ucloud_slurm.errors import CoreRefusedError
from ucloud_slurm.ucloud.named import DriveRegistration, JobRegistration, NamedProject, NamedUser, RegisteredProduct

__all__ = [
    "MAX_INTEGER", "MAX_ITEMS", "MAX_NAME_BYTES", "MAX_TEXT_CHARACTERS", "MAX_USAGE", "Call", "Cleared", "Clearing",
    "DriveRegistration", "GateRefusedError", "JobRegistration", "NamedProject", "NamedUser", "RegisteredProduct", "Request",
    "admit", "approval", "clean", "clearing", "drive_registration", "registration",
]  # fmt: skip

MAX_TEXT_CHARACTERS = 10_000  # of a text that people read; a longer one is cut
MAX_NAME_BYTES = 1024  # of every other text: a third of what PostgreSQL takes into an index
MAX_ITEMS = 1000  # of a bulk, in both directions (contract: bulk requests)
MAX_INTEGER = 2**63 - 1  # of a number in JSON, in both directions
MAX_USAGE = 2**53  # sums of it stay 64-bit numbers
MAX_INT4 = 2**31 - 1
MAX_ICON_CHARACTERS = 64  # of a task
MAX_TITLE_CHARACTERS = 4096  # of a drive
BAD_REQUEST = 400


class GateRefusedError(CoreRefusedError):
    """A request that UCloud may not survive. It was not sent; the same request is never sent."""

    def __init__(self, why: str) -> None:
        super().__init__(BAD_REQUEST, why)
        self.args = (f"not sent to UCloud: {why}",)


class Call(Enum):
    """The calls that depend on nothing: verb and path."""

    REFRESH = ("POST", "/auth/providers/refresh")
    UPDATE = ("POST", "/api/jobs/control/update")
    CHARGE = ("POST", "/api/jobs/control/chargeCredits")
    CHECK_CREDITS = ("POST", "/api/jobs/control/checkCredits")
    RETRIEVE_JOB = ("GET", "/api/jobs/control/retrieve")
    BROWSE_JOBS = ("GET", "/api/jobs/control/browse")
    RETRIEVE_PRODUCT = ("GET", "/api/products/retrieve")
    RETRIEVE_PRODUCT_V2 = ("GET", "/api/products/v2/retrieve")
    BROWSE_PRODUCTS_V2 = ("GET", "/api/products/v2/browse")
    CREATE_PRODUCTS_V2 = ("POST", "/api/products/v2")
    REPORT_USAGE = ("POST", "/api/accounting/v2/reportUsage")
    CHECK_EXISTENCE = ("POST", "/api/providers/resources/checkExistence")
    POST_TASK_STATUS = ("POST", "/api/tasks/postStatus")
    RETRIEVE_DRIVE = ("GET", "/api/files/collections/control/retrieve")
    BROWSE_DRIVES = ("GET", "/api/files/collections/control/browse")


class _Proven(Enum):
    """The calls that need a proof."""

    REGISTER = ("POST", "/api/jobs/control/register")
    REGISTER_DRIVE = ("POST", "/api/files/collections/control/register")
    CLEAR = ("POST", "/api/providers/integration/control/clearConnection")
    APPROVE = ("POST", "/api/providers/integration/control/approveConnection")
    CREATE_TASK = ("POST", "/api/tasks")


class _Key:
    """What only this module has."""


_KEY = _Key()


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the gate has admitted.

    :ivar content: the body, JSON
    """

    key: _Key = field(repr=False)
    verb: str
    path: str
    query: Mapping[str, str]
    content: bytes | None

    def __post_init__(self) -> None:
        if self.key is not _KEY:
            raise TypeError("only the gate makes a request")


class Cleared:
    """The proof that a connection was cleared at UCloud. It is good for one approval."""

    def __init__(self, clearing: "Clearing") -> None:
        self._user: NamedUser | None = clearing.user

    def take(self) -> NamedUser:
        """The user.

        :raises GateRefusedError: an approval has taken it
        """
        user, self._user = self._user, None
        if user is None:
            raise GateRefusedError("a connection is approved once after it was cleared")
        return user


class Clearing(NamedTuple):
    """The request that clears a connection; who has sent it makes a :class:`Cleared` of it."""

    user: NamedUser
    request: Request


# The texts that people read; a place has no numbers of list items. Every other text is a name, or a part of one.
_PROSE: Mapping[Call | _Proven, frozenset[str]] = {
    Call.UPDATE: frozenset({"items.update.status", "items.update.outputFolder"}),
    Call.CHARGE: frozenset({"items.description"}),
    Call.CHECK_CREDITS: frozenset({"items.description"}),
    Call.REPORT_USAGE: frozenset({"items.description.description"}),
    Call.CREATE_PRODUCTS_V2: frozenset(f"items.{key}" for key in ("description", "cpuModel", "memoryModel", "gpuModel")),
    _Proven.REGISTER: frozenset({"items.spec.name"}),
    Call.POST_TASK_STATUS: frozenset(f"update.newStatus.{key}" for key in ("title", "body", "progress")),
    _Proven.CREATE_TASK: frozenset({"title", "body", "progress"}),
    _Proven.REGISTER_DRIVE: frozenset({"items.spec.title"}),
}
# UCloud looks these up; with an empty one it ends.
_NEVER_EMPTY = frozenset(
    {"username", "user", "items.createdBy", "items.project", "items.owner.username", "items.owner.projectId"}
)
_BOUNDS: Mapping[str, tuple[int, int]] = {
    "items.usage": (0, MAX_USAGE),
    "items.update.newTimeAllocation": (1, MAX_USAGE),
    "items.spec.replicas": (1, MAX_INT4),
    "items.cpu": (0, MAX_INT4),
    "items.memoryInGigs": (0, MAX_INT4),
    "items.gpu": (0, MAX_INT4),
    "update.newStatus.progressPercentage": (-1, 100),
}


def admit(call: Call, *, query: Mapping[str, str] | None = None, body: Mapping[str, object] | None = None) -> Request:
    """The request of a call.

    :param body: JSON
    :raises GateRefusedError: UCloud may not survive it
    """
    return _admit(call, query or {}, body)


def clearing(user: NamedUser) -> Clearing:
    """The request that says that a user is not connected. Idempotent."""
    return Clearing(user, _admit(_Proven.CLEAR, {}, {"username": user.name}))


def approval(cleared: Cleared) -> Request:
    """The request that says that a user is connected. UCloud ends when it comes for one who is.

    :raises GateRefusedError: the proof was taken before
    """
    return _admit(_Proven.APPROVE, {}, {"username": cleared.take().name})


def registration(jobs: Sequence[JobRegistration]) -> Request:
    """The request that registers jobs. UCloud ends when it does not know an owner or a project."""
    items = [
        {
            "spec": dict(job.specification),
            "providerGeneratedId": job.key,
            "createdBy": job.owner.name if job.owner else None,
            "project": job.project.id if job.project else None,
        }
        for job in jobs
    ]
    return _admit(_Proven.REGISTER, {}, {"items": items})


def task_creation(user: NamedUser, title: str, progress: str, *, icon: str) -> Request:
    """The request that makes a task for a user, who can cancel it.

    :raises GateRefusedError: the icon's name is longer than UCloud can store
    """
    if len(icon) > MAX_ICON_CHARACTERS:
        raise GateRefusedError(f"icon: {len(icon)} characters are too long")
    what = {"user": user.name, "title": title, "body": "", "progress": progress, "icon": icon}
    return _admit(_Proven.CREATE_TASK, {}, {**what, "canPause": False, "canCancel": True})


def drive_registration(drive: DriveRegistration) -> Request:
    """The request that registers one drive: of several the ids would be lost when one of them is refused.

    UCloud ends when it does not know the owner or the project, or cannot store the title.

    :raises GateRefusedError: its title or key cannot be stored or found again, or it has no owner
    """
    title, key = drive.title, drive.key
    if not 1 <= len(title) <= MAX_TITLE_CHARACTERS or any(unicodedata.category(each) == "Cc" for each in title):
        raise GateRefusedError(f"items[0].spec.title: is not 1 to {MAX_TITLE_CHARACTERS} characters without control characters")
    if not key or "," in key:
        raise GateRefusedError("items[0].providerGeneratedId: is empty or has a comma")
    if drive.owner is None and drive.project is None:
        raise GateRefusedError("items[0]: a drive is somebody's")
    product = {"id": drive.product.id, "category": drive.product.category, "provider": drive.product.provider}
    item = {
        "spec": {"title": title, "product": product, "labels": None},
        "providerGeneratedId": key,
        "createdBy": drive.owner.name if drive.owner else None,
        "project": drive.project.id if drive.project else None,
        "projectAllRead": drive.project is not None,
        "projectAllWrite": drive.project is not None and drive.writable,
    }
    return _admit(_Proven.REGISTER_DRIVE, {}, {"items": [item]})


def _admit(call: Call | _Proven, query: Mapping[str, str], body: Mapping[str, object] | None) -> Request:
    verb, path = call.value
    for name, text in query.items():
        _check_name(text, name)
    if body is None:
        return _request(verb, path, query, None)
    items = body.get("items")
    if isinstance(items, list) and len(items) > MAX_ITEMS:
        raise GateRefusedError(f"items: {len(items)} are too many")
    cleaned = _cleaned(body, "", "", _PROSE.get(call, frozenset()))
    return _request(verb, path, query, json.dumps(cleaned, separators=(",", ":")).encode())


def _request(verb: str, path: str, query: Mapping[str, str], content: bytes | None) -> Request:
    return Request(_KEY, verb, path, dict(query), content)


def _cleaned(value: Any, kind: str, place: str, prose: frozenset[str]) -> Any:
    """A value that UCloud can store.

    :param kind: its place without the numbers of list items
    :param place: its place, for the refusal
    """
    match value:
        case str() if kind in prose:
            return clean(value)
        case str():
            _check_name(value, place, may_be_empty=kind not in _NEVER_EMPTY)
        case bool() | None:
            pass
        case int():
            low, high = _BOUNDS.get(kind, (-MAX_INTEGER - 1, MAX_INTEGER))
            if not low <= value <= high:
                raise GateRefusedError(f"{place}: {value} is not a number from {low} to {high}")
        case list():
            return [_cleaned(item, kind, f"{place}[{number}]", prose) for number, item in enumerate(value)]
        case dict():
            return dict(_cleaned_fields(value, kind, place, prose))
        case _:
            raise GateRefusedError(f"{place}: a {type(value).__name__} is no part of a request")
    return value


def _cleaned_fields(value: dict[str, Any], kind: str, place: str, prose: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        _check_name(key, f"a key of {place or 'the request'}")
        yield key, _cleaned(item, f"{kind}.{key}" if kind else key, f"{place}.{key}" if place else key, prose)


def clean(text: str) -> str:
    """A text that people read, as UCloud can store it: without NUL and lone surrogates, and not too long."""
    sound = text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return sound if len(sound) <= MAX_TEXT_CHARACTERS else sound[: MAX_TEXT_CHARACTERS - 1] + "…"


def _check_name(text: str, place: str, *, may_be_empty: bool = True) -> None:
    """Refuses a text that would be another one if it were cleaned."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise GateRefusedError(f"{place}: not a valid text") from None
    if "\0" in text:
        raise GateRefusedError(f"{place}: has a NUL character")
    if size > MAX_NAME_BYTES:
        raise GateRefusedError(f"{place}: {size} bytes are too long")
    if not text and not may_be_empty:
        raise GateRefusedError(f"{place}: is empty")
