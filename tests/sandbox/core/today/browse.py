"""Filters, order and pages of today (contract: jobs.control.browse)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tests.sandbox.core.errors import ProtocolError
from tests.sandbox.core.jobs import CoreJob
from tests.sandbox.core.today.bodies import whole

Json = dict[str, Any]
T = TypeVar("T")
USUAL_PAGE = 50
LARGEST_PAGE = 1000
MOST_IDS = 1000
LABELS = "filterLabels."


def matching(jobs: Sequence[CoreJob], query: Mapping[str, str], now_ms: int) -> list[CoreJob]:
    """The jobs that a query asks for, in its order; the newest first unless it says otherwise.

    The provider's own ids are known of registered jobs only: those that create has answered are forgotten.

    :param now_ms: milliseconds since the epoch
    :raises ProtocolError: 400 for a number that cannot be read
    """
    query = {key: value for key, value in query.items() if value}  # empty is absent
    ids, provider_ids = _list(query, "filterIds"), _list(query, "filterProviderIds")
    if provider_ids is not None and len(provider_ids) > MOST_IDS:
        raise ProtocolError([f"filterProviderIds has {len(provider_ids)} ids, which are too many"])
    after, before = (whole(query.get(key, ""), key) for key in ("filterCreatedAfter", "filterCreatedBefore"))

    def suits(job: CoreJob) -> bool:
        has = _properties(job)
        labels = job.specification.get("labels") or {}
        return (
            all(query.get(f"filter{key}") in (None, value) for key, value in has.items())
            and not any(query.get(f"hide{key}") == value for key, value in has.items())
            and all(labels.get(key.removeprefix(LABELS)) == query[key] for key in query if key.startswith(LABELS))
            and job.created_at >= after
            and (not before or job.created_at <= before)
            and (ids is None or job.id in ids)
            and (provider_ids is None or (job.registered and job.provider_generated_id in provider_ids))
        )

    sorts: Mapping[str, Callable[[CoreJob], Any]] = {
        "createdAt": lambda job: (job.created_at, int(job.id)),
        "createdBy": lambda job: (job.owner, int(job.id)),
        "timeLeft": lambda job: ((job.expires_at or now_ms) - now_ms, int(job.id)),
    }
    ascending = query.get("sortDirection", "descending").lower() == "ascending"
    return sorted(filter(suits, jobs), key=sorts.get(query.get("sortBy", ""), sorts["createdAt"]), reverse=not ascending)


def page(
    items: Sequence[T],
    query: Mapping[str, str],
    write: Callable[[T], Json],
    name: Callable[[T], str] = lambda item: item.id,  # type: ignore[attr-defined]
) -> Json:
    """A page. ``next`` is the name of its last item when it is full, also if nothing follows.

    :raises ProtocolError: 400 for a number that cannot be read
    """
    size = whole(query.get("itemsPerPage", ""), "itemsPerPage")
    size = USUAL_PAGE if size <= 0 else min(size, LARGEST_PAGE)
    names = [name(item) for item in items]
    token = query.get("next")
    start = names.index(token) + 1 if token in names else (len(names) if token else 0)
    part = items[start : start + size]
    return {
        "items": [write(item) for item in part],
        "itemsPerPage": size,
        "next": name(part[-1]) if len(part) == size else None,
    }


def _properties(job: CoreJob) -> dict[str, str]:
    product = job.specification.get("product", {})
    return {
        "State": job.state,
        "Application": job.specification.get("application", {}).get("name", ""),
        "CreatedBy": job.owner,
        "Provider": product.get("provider", ""),
        "ProductId": product.get("id", ""),
        "ProductCategory": product.get("category", ""),
    }


def _list(query: Mapping[str, str], key: str) -> set[str] | None:
    return set(query[key].split(",")) if key in query else None
