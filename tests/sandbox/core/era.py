"""The eras of UCloud/Core that can be simulated, as values (contract: provenance and eras).

Sources: the UCloud developer guide of autumn 2021, the releases up to autumn 2022, and the Core that was written
anew in another language.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.token_rules import RULES_OF_2021, TokenRules

FINAL = frozenset({"SUCCESS", "FAILURE", "EXPIRED"})
"""States that a job never leaves."""


@dataclass(frozen=True, slots=True)
class CoreEra:
    """How a Core of some time differs from others. Make variants with :func:`dataclasses.replace`.

    :ivar username_header: how ``UCloud-Username`` encodes the acting user
    :ivar multiplier_key: the key of a charge that Core reads; it ignores the other
    :ivar suspend_items: whether an item of suspend is the Job or ``{"job": Job}``
    :ivar has_check_credits: whether jobs.control.checkCredits exists; it is a 404 otherwise
    :ivar has_new_time_allocation: whether an update may carry ``newTimeAllocation`` (milliseconds, the new
        total)
    :ivar has_restarts: whether an update may carry ``allowRestart`` and ``newMounts``
    :ivar has_suspended: whether SUSPENDED is a state, which unsuspend ends
    :ivar has_resource_init: whether Core announces owners with jobs.provider.init
    :ivar has_unlinked: whether Core tells a provider that a user gave up the connection, and the provider can tell Core
    :ivar utilization_by_category: whether retrieveUtilization names a product category
    :ivar loses_replicas: whether a Job says ``replicas: 1`` whatever was asked, so that the true number
        is only in ``status.jobParametersJson.request.replicas``
    :ivar empty_durations: whether an absent ``timeAllocation`` is an object of three nulls instead of null
    :ivar warns_early: whether the as-coded charge tests the balance with the charge taken twice, so that
        ``insufficientFunds`` comes one charge before the wallet is empty
    :ivar tokens: see :class:`TokenRules`
    :ivar reading: how requests of the provider are read: as declared, where a field may be missing only if it has
        a default, or field by field by their types, where nothing has to be there; and the errors that go with it
    :ivar says_content: whether Core's calls say that they are JSON, and have an id
    :ivar needs_answers: whether a success must be JSON of the right type, also where it says nothing
    :ivar repeats: how often a call for a user is repeated after 449 or 503
    :ivar repeat_wait: seconds between integration.init and the next try
    :ivar needs_init: whether integration.init must succeed then
    :ivar creates_singly: whether each job is created by a call of its own
    :ivar asks_wallet: whether a job is refused when its payer has nothing left
    :ivar accounting: whether wallets hold credits that are charged for, or quotas whose usage is reported
    :ivar job_form: how a Job, its application and its product are written
    :ivar log_form: whether a log is a stream of many on a shared WebSocket, or has a WebSocket to itself
    :ivar polls: whether Core asks for products, manifest and branding all the time, and goes by the last answer
    :ivar is_fatal: whether what its database refuses ends this Core: a connection that is there already, users and
        projects that are not there
    :ivar needs_absolute: whether the addresses that a browser is sent to must be absolute
    :ivar unlink_restores: whether a provider that refuses to unlink a user keeps the connection
    :ivar not_made: paths of calls of the provider that this Core does not make any more
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
    tokens: TokenRules = RULES_OF_2021
    reading: Literal["as declared", "by type"] = "as declared"
    says_content: bool = True
    needs_answers: bool = False
    repeats: int = 4
    repeat_wait: float = 0.2
    needs_init: bool = True
    creates_singly: bool = False
    asks_wallet: bool = True
    accounting: Literal["credits", "quotas"] = "credits"
    job_form: Literal["first", "second"] = "first"
    log_form: Literal["streams", "sockets"] = "streams"
    polls: bool = False
    is_fatal: bool = False
    needs_absolute: bool = False
    unlink_restores: bool = False
    not_made: frozenset[str] = frozenset()

    @property
    def states(self) -> frozenset[str]:
        """The states that a provider may report. CANCELING is a word of 2021 that nobody may send."""
        return FINAL | {"IN_QUEUE", "RUNNING"} | ({"SUSPENDED"} if self.has_suspended else frozenset())

    def require_today(self) -> None:
        """Refuse a call that came with today's Core.

        :raises CoreError: 404 in an era that does not have it
        """
        if self.job_form == "first":
            raise CoreError(404, "Not found")


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

CORE_TODAY = CoreEra(
    name="today",
    username_header="base64",
    multiplier_key="periods",
    suspend_items="wrapped",
    has_check_credits=True,
    has_new_time_allocation=True,
    has_restarts=True,
    has_suspended=True,
    has_resource_init=False,
    has_unlinked=True,
    utilization_by_category=True,
    loses_replicas=False,
    empty_durations=False,
    warns_early=False,
    tokens=TokenRules(
        seconds=10 * 60,
        has_uid=False,
        lists_audience=True,
        refusal=403,
        refusal_why="Forbidden",
        stranger_why="Bad token supplied",
        reads_claims=False,
        unknown_refresh=401,
    ),
    reading="by type",
    says_content=False,
    needs_answers=True,
    repeats=5,
    repeat_wait=0.5,
    needs_init=False,
    creates_singly=True,
    asks_wallet=False,
    accounting="quotas",
    job_form="second",
    log_form="sockets",
    polls=True,
    is_fatal=True,
    needs_absolute=True,
    unlink_restores=True,
    not_made=frozenset({"jobs/init", "jobs/verify", "jobs/updateAcl", "jobs/retrieveUtilization", "integration/welcome"}),
)
"""Today: no credit check, usage that is reported, a socket for each log, 403 for stale tokens."""

ERAS: Mapping[str, CoreEra] = {era.name: era for era in (CORE_2021, CORE_2022, CORE_TODAY)}
"""Every era by its name."""
