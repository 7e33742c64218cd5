"""The calls of jobs.provider and of the integration module (contract: route table)."""

from collections.abc import Sequence

from flask import request

from ucloud_slurm.errors import Refused
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.breaker import SLURM, UCLOUD
from ucloud_slurm.store.maintenance import covering
from ucloud_slurm.system import request_id
from ucloud_slurm.ucloud.jobs import AclUpdate, Bulk, ExtendItem, Job, JobItem, Principal, SessionItem, UserName, Welcome
from ucloud_slurm.ucloud.products import ProductReference
from ucloud_slurm.ucloud.responses import (
    Answers,
    ComputeSupport,
    Condition,
    Created,
    Destination,
    Manifest,
    Nothing,
    QueueLevel,
    ShellSession,
    Utilization,
    VncSession,
    WebSession,
    support,
)
from ucloud_slurm.web import access, branding, drives, files, forms, reconcile, tasks, unsupported, utilization
from ucloud_slurm.web.control import Extend, Resume, Suspend
from ucloud_slurm.web.create import Create
from ucloud_slurm.web.greeting import Greeter
from ucloud_slurm.web.linking import Connecting
from ucloud_slurm.web.routes import NOT_SUPPORTED, CallRegistry
from ucloud_slurm.web.sessions import open_session

ANSWER_SECONDS = 0.7  # after the deadline of a call, for what it writes before its answer
OVERDUE_SECONDS = 0.2  # after that, another thread answers in place of one that does not
BLUEPRINT = "calls"
CREATE = "calls.POST jobs"  # the endpoint in Flask's url_map
# Those of calls that UCloud makes when it shows somebody a form, the machines or a session.
SHOWN = frozenset(
    f"calls.{call}"
    for call in (
        "GET jobs retrieveProducts",
        "GET jobs retrieveUtilization",
        "GET integration retrieveManifest",
        "GET integration retrieveStatus",
        "POST jobs interactiveSession",
        "POST jobs requestDynamicParameters",
    )
)


def declare(provider: Provider) -> CallRegistry:
    """The routes under ``/ucloud/<provider id>``."""

    greeter = Greeter(provider)

    def authenticate() -> None:
        provider.tokens.verify(request.headers.get("Authorization"), provider.now())
        user = acting_user(provider)
        request_id.name_user(user)
        provider.store.refuse_elsewhere()
        if request.endpoint in SHOWN:
            greeter.greet(user)

    within = provider.config.jobs.submit_within + ANSWER_SECONDS
    calls = CallRegistry(f"/ucloud/{provider.config.provider.id}", authenticate, within)
    _jobs(provider, calls)
    _control(provider, calls)
    _integration(provider, calls)
    if provider.offers_drives:
        drives.declare(provider, calls)
        files.declare(provider, calls, lambda: acting_user(provider))
    unsupported.declare(provider, calls)
    tasks.declare(provider, calls)
    branding.declare(provider, calls)
    forms.declare(provider, calls)
    return calls


def acting_user(provider: Provider) -> str | None:
    """The user of UCloud for whom UCloud makes the call. Valid only after the token was verified."""
    return provider.era.username(request.headers.get("UCloud-Username"))


def check_jobs(provider: Provider, jobs: Sequence[Job]) -> None:
    """Refuses jobs of other providers, and jobs to which the acting user has no access.

    :raises Problem: for the first refused job; nothing has been done
    """
    reconcile.check_provider(provider, jobs)
    access.check_all(provider, jobs, acting_user(provider))


def _jobs(provider: Provider, calls: CallRegistry) -> None:
    @calls.call("POST", "jobs", takes=Bulk[Job], gives=Answers[Created])
    def create(bulk: Bulk[Job]) -> Answers[Created]:
        """Start jobs: all of them or none."""
        return Answers(responses=[Created(id=id_) for id_ in Create(provider).accept(bulk.items)])

    @calls.call("POST", "jobs/terminate", takes=Bulk[Job], gives=Answers[Nothing])
    def terminate(bulk: Bulk[Job]) -> Answers[Nothing]:
        """End jobs; the final state of an ended job is sent again."""
        check_jobs(provider, bulk.items)
        reconcile.terminate(provider, bulk.items)
        return _nothing(bulk.items)

    @calls.call("POST", "jobs/verify", takes=Bulk[Job])
    def verify(bulk: Bulk[Job]) -> None:
        """Compare jobs; UCloud is sent the state of those that it shows wrongly."""
        reconcile.verify(provider, bulk.items)

    @calls.call("POST", "jobs/updateAcl", takes=Bulk[AclUpdate], gives=Answers[Nothing])
    def update_acl(bulk: Bulk[AclUpdate]) -> Answers[Nothing]:
        """Give and take access to jobs."""
        reconcile.check_provider(provider, [item.resource for item in bulk.items])
        access.update(provider, bulk.items)
        return _nothing(bulk.items)

    @calls.call("GET", "jobs/retrieveProducts", gives=Answers[ComputeSupport])
    def retrieve_products() -> Answers[ComputeSupport]:
        """List the products and what each supports."""
        pages = provider.config.sessions.url is not None
        extension = utilization.may_extend(provider)
        images = provider.config.containers.runtime != "none"
        products, name = provider.config.products, provider.config.provider.id
        asked = (product.partition for product in products if provider.era.has_queue_status)
        queues = utilization.queues(provider, asked)
        windows = provider.maintenance.on(provider.now()) if provider.era.has_queue_status else ()
        return Answers(
            responses=[
                support(
                    ProductReference(id=each.id, category=each.category, provider=name),
                    pages=pages,
                    extension=extension,
                    images=images,
                    utilization=provider.era.asks_utilization,
                    queue=QueueLevel.FULL if covering(windows, each.category, each.id) else queues.get(each.partition),
                )
                for each in products
            ]
        )

    @calls.call("DELETE", "jobs", gives=None)
    def delete() -> None:
        """Refused: jobs are ended, not deleted."""
        raise Refused("Deleting a job is not supported by this provider; end it instead.", error_code=NOT_SUPPORTED)


def _control(provider: Provider, calls: CallRegistry) -> None:
    @calls.call("POST", "jobs/extend", takes=Bulk[ExtendItem], gives=Answers[Nothing])
    def extend(bulk: Bulk[ExtendItem]) -> Answers[Nothing]:
        """Give jobs more time."""
        check_jobs(provider, [item.job for item in bulk.items])
        Extend(provider).bulk(bulk.items)
        return _nothing(bulk.items)

    @calls.call("POST", "jobs/suspend", takes=Bulk[JobItem], gives=Answers[Nothing])
    def suspend(bulk: Bulk[JobItem]) -> Answers[Nothing]:
        """Suspend running jobs."""
        check_jobs(provider, [item.job for item in bulk.items])
        Suspend(provider).bulk(bulk.items)
        return _nothing(bulk.items)

    @calls.call("POST", "jobs/unsuspend", takes=Bulk[JobItem], gives=Answers[Nothing])
    def unsuspend(bulk: Bulk[JobItem]) -> Answers[Nothing]:
        """Resume suspended jobs."""
        check_jobs(provider, [item.job for item in bulk.items])
        Resume(provider).bulk(bulk.items)
        return _nothing(bulk.items)

    @calls.call(
        "POST", "jobs/interactiveSession", takes=Bulk[SessionItem], gives=Answers[ShellSession | WebSession | VncSession]
    )
    def open_sessions(bulk: Bulk[SessionItem]) -> Answers[ShellSession | WebSession | VncSession]:
        """Open shells, web pages and screens of running jobs."""
        check_jobs(provider, [item.job for item in bulk.items])
        user = acting_user(provider)
        return Answers(responses=open_session(provider, bulk.items, user))

    @calls.call("GET", "jobs/retrieveUtilization", gives=Utilization, query=("categoryId",))
    def retrieve_utilization(*, categoryId: str | None) -> Utilization:  # noqa: N803  the contract's own name
        """Say how many resources are used and how many jobs wait."""
        return utilization.utilization(provider, categoryId)


def _integration(provider: Provider, calls: CallRegistry) -> None:
    link = Connecting(provider)

    @calls.call("GET", "integration/retrieveManifest", gives=Manifest)
    def manifest() -> Manifest:
        """Say whether users must connect first."""
        return Manifest(enabled=link.wanted)

    @calls.call("POST", "integration/init", takes=UserName)
    def init(user: UserName) -> None:
        """Prepare for a user: nothing is done, but the user must be connected."""
        link.check(user.username)

    @calls.call("POST", "jobs/init", takes=Principal)
    def init_jobs(_principal: Principal) -> None:
        """Prepare for the jobs of an owner: nothing is done."""

    @calls.call("POST", "integration/connect", takes=UserName, gives=Destination)
    def connect(user: UserName) -> Destination:
        """Give the address of the page that says how to connect."""
        return Destination(redirect_to=link.begin(user.username))

    @calls.call("POST", "integration/unlinked", takes=UserName)
    def unlinked(user: UserName) -> None:
        """Remove a user's connection."""
        link.end(user.username)

    @calls.call("GET", "integration/retrieveStatus", gives=Condition)
    def status() -> Condition:
        """Say whether the provider works."""
        failing = [part for part in (SLURM, UCLOUD) if provider.breaker.of(part).failing_since is not None]
        return Condition(level="DEGRADED" if failing else "NORMAL")

    @calls.call("POST", "integration/welcome", takes=Welcome, gives=None, public=True)
    def welcome(_welcome: Welcome) -> None:
        """Refused: this provider never asks for approval."""
        # Keys that were not asked for may come from anybody; an administrator installs ours.
        raise Refused("This provider has not asked for approval; its keys are put into its files by hand.")


def _nothing(items: Sequence[object]) -> Answers[Nothing]:
    return Answers(responses=[Nothing() for _ in items])
