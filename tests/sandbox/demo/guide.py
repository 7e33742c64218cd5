"""The three conversations of UCloud's developer guide, as the rows of its tables, and whether they were had.

With today's UCloud they are the same stories: use is reported as one number instead of charged by the minute, nothing
left is an answer instead of a status, and the provider notices by itself what has gone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FROM_UCLOUD, FROM_PROVIDER = "UCloud → Provider", "UCloud ← Provider"

Test = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: what must be said at this point.

    :ivar call: last part of the call's name, such as ``create``; empty for a comment
    :ivar fits: whether a request or an answer is the one that the row means
    """

    id: str
    direction: str
    call: str
    message: str
    answer: bool = False
    fits: Test = lambda _: True


def _state(name: str, message: str | None = None) -> Test:
    def fits(request: dict[str, Any]) -> bool:
        updates = [item["update"] for item in request["items"]]
        return all(u["state"] == name and (message is None or u["status"] == message) for u in updates)

    return fits


def _units(number: int) -> Test:
    return lambda request: [item["units"] for item in request["items"]] == [number]


def _status(number: int) -> Test:
    return lambda answer: bool(answer["status"] == number)


def _charge(id_: str) -> Row:
    return Row(f"[{id_}] Request", FROM_PROVIDER, "chargeCredits", "Charge for 1 minute of use", fits=_units(1))


def _no_funds(id_: str) -> Row:
    return Row(f"[{id_}] Response", FROM_UCLOUD, "chargeCredits", "402 Payment Required", answer=True, fits=_status(402))


def _report(id_: str, minutes: int) -> Row:
    return Row(
        f"[{id_}] Request",
        FROM_PROVIDER,
        "reportUsage",
        f"{minutes} minute{'s' * (minutes > 1)} used in all",
        fits=lambda request: [item["usage"] for item in request["items"]] == [minutes],
    )


def _left(id_: str, left: bool) -> Row:
    return Row(
        f"[{id_}] Response",
        FROM_UCLOUD,
        "reportUsage",
        "OK" if left else "Nothing left",
        answer=True,
        fits=lambda answer: (answer["body"] or {}).get("responses") == [left],
    )


_POOR = Row(
    "[4] Request",
    FROM_PROVIDER,
    "update",
    "Proceed to `SUCCESS` with message 'Insufficient funds'",
    fits=_state("SUCCESS", "Insufficient funds"),
)
_BEGIN = (
    Row("[1] Request", FROM_UCLOUD, "create", "Start application with ID {job}"),
    Row("[1] Response", FROM_PROVIDER, "create", "OK", answer=True, fits=_status(200)),
    Row("[2] Request", FROM_PROVIDER, "update", "Proceed to `RUNNING`", fits=_state("RUNNING")),
)
ACCOUNTING = (
    *_BEGIN,
    _charge("3"),
    _charge("4"),
    _charge("5"),
    Row("[6] Request", FROM_UCLOUD, "terminate", "Delete {job}"),
    _charge("7"),
    Row("[8] Request", FROM_PROVIDER, "update", "Proceed to `SUCCESS`", fits=_state("SUCCESS")),
)
MISSING_CREDITS = (*_BEGIN, _charge("3"), _no_funds("3"), _POOR)
OUT_OF_SYNC = (
    *_BEGIN,
    _charge("3"),
    _no_funds("3"),
    _charge("3"),
    _no_funds("3"),
    Row("[4] Comment", "", "", "{job} disappears at the provider, which does not notice"),
    Row("[5] Request", FROM_UCLOUD, "verify", "Verify that {job} is running"),
    Row("[5] Response", FROM_PROVIDER, "verify", "OK", answer=True, fits=_status(200)),
    Row("[6] Request", FROM_PROVIDER, "update", "Proceed {job} to `FAILURE`", fits=_state("FAILURE")),
)


ACCOUNTING_REPORTED = (
    *_BEGIN,
    *(row for id_, minutes in (("3", 1), ("4", 2), ("5", 3)) for row in (_report(id_, minutes), _left(id_, left=True))),
    Row("[6] Request", FROM_UCLOUD, "terminate", "Delete {job}"),
    _report("7", 4),
    _left("7", left=True),
    Row("[8] Request", FROM_PROVIDER, "update", "Proceed to `SUCCESS`", fits=_state("SUCCESS")),
)
MISSING_CREDITS_REPORTED = (*_BEGIN, _report("3", 1), _left("3", left=False), _POOR)
OUT_OF_SYNC_REPORTED = (
    *_BEGIN,
    _report("3", 1),
    _left("3", left=False),
    Row("[4] Comment", "", "", "{job} cannot be cancelled, and disappears at the provider"),
    Row("[5] Request", FROM_PROVIDER, "update", "Proceed {job} to `FAILURE`", fits=_state("FAILURE")),
)
TABLES: Mapping[bool, tuple[Sequence[Row], ...]] = {
    False: (ACCOUNTING, MISSING_CREDITS, OUT_OF_SYNC),
    True: (ACCOUNTING_REPORTED, MISSING_CREDITS_REPORTED, OUT_OF_SYNC_REPORTED),
}
"""All three, by whether use is reported."""


class Conversation:
    """Follows one table. What is said is held against the next row; the first thing that differs ends it."""

    def __init__(self, title: str, rows: Sequence[Row], show: Callable[[str], None]) -> None:
        self.title = title
        self._rows = list(rows)
        self._show = show
        self._next = 0
        self._reports: list[dict[str, Any]] = []
        self.wrong: str | None = None

    @property
    def complete(self) -> bool:
        """Whether everything was said, and nothing else."""
        return self.wrong is None and self._next == len(self._rows)

    def said(self, name: str, job: str, content: dict[str, Any], *, answer: bool) -> None:
        """Something was asked or answered.

        :param name: the call's full name
        :param content: the request's body, or ``{"status": ..., "body": ...}`` of an answer
        """
        row = self._rows[self._next] if self._next < len(self._rows) else None
        call = name.rpartition(".")[2]
        if row is not None and (row.call, row.answer) == (call, answer) and row.fits(content):
            self._tell(row, job, name)
            if call == "reportUsage" and not answer:
                self._reports.append(content)
        elif not answer and content in self._reports:
            # After the guide was written: UCloud forgets what it has not written out when it stops.
            self._show(f"{'':<12} | {FROM_PROVIDER:<17} | {name:<29} | The last report of {job} once more")
        elif not answer or content["status"] >= 400:
            what = "answer to" if answer else "request"
            self._fail(f"unexpected {what} {call}: {str(content)[:200]}", row)

    def comment(self, job: str) -> None:
        """Something happened that is not said."""
        row = self._rows[self._next] if self._next < len(self._rows) else None
        if row is not None and not row.call:
            self._tell(row, job)
        else:
            self._fail("an unexpected comment", row)

    def reached(self, call: str, times: int = 1, *, answer: bool = False) -> bool:
        """Whether the rows of a call have been said so many times."""
        return sum(row.call == call and row.answer is answer for row in self._rows[: self._next]) >= times

    def give_up(self, why: str) -> None:
        """Ends it because something did not come."""
        row = self._rows[self._next] if self._next < len(self._rows) else None
        self._fail(why, row)

    def _tell(self, row: Row, job: str, name: str = "") -> None:
        self._next += 1
        self._show(f"{row.id:<12} | {row.direction:<17} | {name:<29} | {row.message.format(job=job)}")

    def _fail(self, what: str, row: Row | None) -> None:
        if self.wrong is None:
            wanted = f"{row.id} {row.call}: {row.message}" if row else "nothing more"
            self.wrong = f"{what}; the guide has {wanted}"
            self._show(f"WRONG: {self.wrong}")
