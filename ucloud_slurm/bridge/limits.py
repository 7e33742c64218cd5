"""How many jobs a person and a project may have at a time, in all and of one product."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from ucloud_slurm.config.jobs import LimitsSection
from ucloud_slurm.config.products import Product
from ucloud_slurm.ucloud.channel import OwnerKind

T = TypeVar("T")


class Limit(NamedTuple):
    """Most jobs at a time that have not ended.

    :ivar owner: the user's name, or the project's id
    :ivar machine: category and id of the product whose jobs count; None: all jobs count
    """

    kind: OwnerKind
    owner: str
    machine: tuple[str, str] | None
    most: int


def limits_of(owner: str, project: str | None, limits: LimitsSection, product: Product | None) -> Iterator[Limit]:
    """The limits that a new job is under.

    :param product: of the job; None: one that is not configured
    """
    machine = None if product is None else (product.category, product.id)
    for section, counted in ((limits, None), (product, machine)):
        if section is not None and section.jobs_per_person is not None:
            yield Limit(OwnerKind.USER, owner, counted, section.jobs_per_person)
        if section is not None and section.jobs_per_project is not None and project is not None:
            yield Limit(OwnerKind.PROJECT, project, counted, section.jobs_per_project)


def first_beyond(wanted: Iterable[tuple[T, Iterable[Limit]]], count: Callable[[Limit], int]) -> tuple[T, Limit, int] | None:
    """The first new job that is too many.

    :param wanted: the new jobs in their order, each with its limits
    :param count: how many jobs that count for a limit there are without them
    :returns: the job, the limit, and how many jobs there would be with it; None: all of them are within their limits
    """
    before, new = dict[Limit, int](), Counter[Limit]()
    for job, limits in wanted:
        for limit in limits:
            if limit not in before:
                before[limit] = count(limit)
            new[limit] += 1
            if before[limit] + new[limit] > limit.most:
                return job, limit, before[limit] + new[limit]
    return None


def too_many(limit: Limit, number: int) -> str:
    """The sentence with which a new job is refused.

    :param number: of jobs that there would be with it
    """
    whose = "this project would have" if limit.kind is OwnerKind.PROJECT else "you would have"
    what = "" if limit.machine is None else f" of {limit.machine[1]}"
    return (
        f"With this job {whose} {number} jobs{what} that have not ended; the limit is {limit.most}. "
        "Please try again when another one has ended."
    )
