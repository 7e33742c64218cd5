"""The eras of UCloud/Core that can be simulated, as values (contract: provenance and eras).

Sources: the UCloud developer guide of autumn 2021 and the releases up to autumn 2022.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FINAL = frozenset({"SUCCESS", "FAILURE", "EXPIRED"})
"""States that a job never leaves."""


@dataclass(frozen=True, slots=True)
class CoreEra:
    """How a Core of some time differs from others. Make variants with :func:`dataclasses.replace`.

    :ivar username_header: how the acting user stands in ``UCloud-Username``
    :ivar multiplier_key: the key of a charge that Core reads; it ignores the other
    :ivar suspend_items: whether an item of suspend is the Job or ``{"job": Job}``
    :ivar has_check_credits: whether jobs.control.checkCredits exists; it is a 404 otherwise
    :ivar has_new_time_allocation: whether an update may carry ``newTimeAllocation`` (milliseconds, the new
        total)
    :ivar has_restarts: whether an update may carry ``allowRestart`` and ``newMounts``
    :ivar has_suspended: whether SUSPENDED is a state, which unsuspend ends
    :ivar has_resource_init: whether Core announces owners with jobs.provider.init
    :ivar has_unlinked: whether Core tells a provider that a user gave up the connection, and may be told so
    :ivar utilization_by_category: whether retrieveUtilization names a product category
    :ivar loses_replicas: whether a Job says ``replicas: 1`` whatever was asked, so that the true number
        stands only in ``status.jobParametersJson.request.replicas``
    :ivar empty_durations: whether an absent ``timeAllocation`` is an object of three nulls instead of null
    :ivar warns_early: whether the as-coded charge tests the balance with the charge taken twice, so that
        ``insufficientFunds`` comes one charge before the wallet is empty
    """

    name: str
    username_header: Literal["raw", "base64"]
    multiplier_key: Literal["numberOfProducts", "periods"]
    suspend_items: Literal["job", "wrapped"]
    has_check_credits: bool
    has_new_time_allocation: bool
    has_restarts: bool
    has_suspended: bool
    has_resource_init: bool
    has_unlinked: bool
    utilization_by_category: bool
    loses_replicas: bool
    empty_durations: bool
    warns_early: bool

    @property
    def states(self) -> frozenset[str]:
        """The states that a provider may report. CANCELING is a word of 2021 that nobody may send."""
        return FINAL | {"IN_QUEUE", "RUNNING"} | ({"SUSPENDED"} if self.has_suspended else frozenset())


CORE_2021 = CoreEra(
    name="2021",
    username_header="raw",
    multiplier_key="numberOfProducts",
    suspend_items="job",
    has_check_credits=False,
    has_new_time_allocation=False,
    has_restarts=False,
    has_suspended=False,
    has_resource_init=False,
    has_unlinked=False,
    utilization_by_category=False,
    loses_replicas=True,
    empty_durations=True,
    warns_early=True,
)
"""Autumn 2021, when the provider API was first described."""

CORE_2022 = CoreEra(
    name="2022",
    username_header="base64",
    multiplier_key="periods",
    suspend_items="wrapped",
    has_check_credits=True,
    has_new_time_allocation=True,
    has_restarts=True,
    has_suspended=True,
    has_resource_init=True,
    has_unlinked=True,
    utilization_by_category=True,
    loses_replicas=False,
    empty_durations=False,
    warns_early=False,
)
"""The year 2022: base64 names, ``periods``, checkCredits, SUSPENDED, newTimeAllocation, unlinked."""

ERAS: Mapping[str, CoreEra] = {era.name: era for era in (CORE_2021, CORE_2022)}
"""Every era by its name."""
