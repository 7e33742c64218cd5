"""Filters, order and pages (contract: jobs.control.browse, JobIncludeFlags, PageV2)."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.sandbox.core.errors import CoreError, ProtocolError
from tests.sandbox.core.jobs import CoreJob

PAGE_SIZES = frozenset({10, 25, 50, 100, 250})
USUAL_PAGE = 50
SORTS: dict[str, Callable[[CoreJob], Any]] = {
    "resource": lambda job: int(job.id),
    "application": lambda job: job.specification["application"]["name"],
    "name": lambda job: job.specification["name"] or "",
    "state": lambda job: job.state,
}


def matching(jobs: Sequence[CoreJob], query: Mapping[str, str]) -> list[CoreJob]:
    """The confirmed jobs that a query asks for, in its order; the newest first unless it says otherwise.

    ``filterApplication`` is accepted and has no effect, as at Core of 2021.

    :raises CoreError: 400 for a number or a word that cannot be read
    """
    state = query.get("filterState")
    after, before = _number(query, "filterCreatedAfter"), _number(query, "filterCreatedBefore")
    ids, provider_ids = _list(query, "filterIds"), _list(query, "filterProviderIds")

    def suits(job: CoreJob) -> bool:
        product = job.specification["product"]
        return (
            job.confirmed
            and (state is None or job.state == state.upper())
            and query.get("filterCreatedBy") in (None, job.owner)
            and query.get("filterProvider") in (None, product["provider"])
            and query.get("filterProductId") in (None, product["id"])
            and query.get("filterProductCategory") in (None, product["category"])
            and (after is None or job.created_at >= after)
            and (before is None or job.created_at <= before)
            and (ids is None or job.id in ids)
            and (provider_ids is None or job.provider_generated_id in provider_ids)
        )

    sort = query.get("sortBy", "resource").lower()
    direction = query.get("sortDirection", "descending").lower()
    if sort not in SORTS or direction not in ("ascending", "descending"):
        raise ProtocolError([f"the query cannot be sorted by {sort}, {direction}"])
    return sorted(filter(suits, jobs), key=SORTS[sort], reverse=direction == "descending")


def page(items: Sequence[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """A PageV2 of the items. The end is where ``next`` is null.

    :raises CoreError: 400 for a bad ``next`` or ``itemsToSkip``
    """
    size = _number(query, "itemsPerPage")
    size = size if size in PAGE_SIZES else USUAL_PAGE
    skip = _number(query, "itemsToSkip") or 0
    if skip < 0:
        raise ProtocolError(["itemsToSkip is negative"])
    start = (_offset(query["next"]) if query.get("next") else 0) + skip
    following = start + size
    return {
        "itemsPerPage": size,
        "items": list(items[start:following]),
        "next": _token(following) if following < len(items) else None,
    }


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(f"offset-{offset}".encode()).decode()


def _offset(token: str) -> int:
    try:
        word, _, number = base64.urlsafe_b64decode(token.encode()).decode().partition("-")
        if word == "offset":
            return int(number)
    except (ValueError, binascii.Error):
        pass
    raise CoreError(400, "Bad next token")


def _number(query: Mapping[str, str], key: str) -> int | None:
    if key not in query:
        return None
    try:
        return int(query[key])
    except ValueError:
        raise ProtocolError([f"{key} is no whole number"]) from None


def _list(query: Mapping[str, str], key: str) -> set[str] | None:
    return set(query[key].split(",")) if key in query else None
