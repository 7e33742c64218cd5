"""What the provider asks of today's Core, and the answers (contract: control routes)."""

import dataclasses
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic.alias_generators import to_camel

from tests.sandbox.core.call import Call
from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.early.job import Include, JobRendering
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreEndsError, CoreError, ProtocolError
from tests.sandbox.core.jobs import CoreJob, Jobs
from tests.sandbox.core.today import messages
from tests.sandbox.core.today.bodies import truth
from tests.sandbox.core.today.browse import matching, page
from tests.sandbox.core.today.history import after
from tests.sandbox.core.today.products import wrong_product
from tests.sandbox.core.today.quotas import Accounts, Workspace
from tests.sandbox.core.tokens import Tokens

Json = dict[str, Any]
SYSTEM = "_ucloud"
"""Who owns a registered job of nobody."""
MOST_NAMES = 1000
ON_ITS_WAY = 0.25
"""Seconds in which an answer to create that has left the provider is sure to be here."""


@dataclass(slots=True)
class ControlToday:
    """The provider's side of Core. Its parts lock themselves; ``changed`` guards what spans several."""

    provider: str
    era: CoreEra
    changed: threading.Condition
    tokens: Tokens
    jobs: Jobs
    accounts: Accounts
    catalogue: Catalogue
    rendering: JobRendering
    directory: Directory
    _registered_categories: dict[str, Json] = field(default_factory=dict)

    def work(self) -> Mapping[str, Callable[[Call], Json]]:
        """What does each call."""
        return {
            "auth.providers.refresh": self.refresh,
            "jobs.control.retrieve": self.retrieve,
            "jobs.control.browse": self.browse,
            "jobs.control.update": self.update,
            "jobs.control.chargeCredits": self.charge,
            "jobs.control.checkCredits": self.check,
            "jobs.control.register": self.register,
            "jobs.control.updateLabels": self.update_labels,
            "jobs.control.browseSshKeys": self.browse_ssh_keys,
            "providers.im.control.approveConnection": self.approve,
            "providers.im.control.clearConnection": self.clear,
            "providers.resources.checkExistence": self.check_existence,
            "products.v2.create": self.create_products,
            "products.v2.retrieve": self.retrieve_product,
            "products.v2.browse": self.browse_products,
            "accounting.v2.reportUsage": self.report_usage,
            "accounting.v2.checkProviderUsable": self.check_provider_usable,
        }

    def refresh(self, call: Call) -> Json:
        """``auth.providers.refresh``."""
        items = call.decode(messages.Refreshes).items
        return bulk([{"accessToken": self.tokens.refresh(item.refresh_token), "csrfToken": ""} for item in items])

    # -- jobs -----------------------------------------------------------------------------------------------

    def retrieve(self, call: Call) -> Json:
        """``jobs.control.retrieve``: everything but product and support, whatever the flags say."""
        wanted, job_id = include(call.query), call.asked("id")
        try:
            job = self.jobs.get(job_id)
        except CoreError:
            raise CoreError(403, "Write permission is required") from None
        everything = replace(wanted, application=True, updates=True, parameters=True)
        return self.rendering.job(job, everything, permissions=True)

    def browse(self, call: Call) -> Json:
        """``jobs.control.browse``: unconfirmed jobs too."""
        wanted = include(call.query)
        jobs = matching(self.jobs.all(), call.query, self.jobs.now_ms())
        return page(jobs, call.query, lambda job: self.rendering.job(job, wanted, permissions=True))

    def update(self, call: Call) -> Json:
        """``jobs.control.update``: each job's updates one after the other, all or none by their ids."""
        items = call.decode(messages.Updates).items
        self._need(item.id for item in items)
        for number, item in enumerate(items):
            self._mind(call, item.update, number)
        with self.changed:
            unanswered = {item.id for item in items}
            self.changed.wait_for(lambda: not self._unconfirmed(unanswered), ON_ITS_WAY)
            for job_id in self._unconfirmed(unanswered):
                call.complain(f"job {job_id} is updated before its create was answered; Core may lose what it has")
            for item in items:
                self.jobs.change(item.id, lambda job, item=item: after(job, item.update, self.jobs.now_ms()))  # type: ignore[misc]
        return {}

    def register(self, call: Call) -> Json:
        """``jobs.control.register``: one after the other; what was registered before an error stays."""
        return bulk([{"id": self._registered(item)} for item in call.decode(messages.Registrations).items])

    def update_labels(self, call: Call) -> Json:
        """``jobs.control.updateLabels``."""
        items = call.decode(messages.Labels).items
        self._need(item.id for item in items)
        for item in items:
            self.jobs.change(item.id, lambda job, item=item: with_part(job, labels=dict(item.labels)))  # type: ignore[misc]
        return {}

    def browse_ssh_keys(self, call: Call) -> Json:
        """``jobs.control.browseSshKeys``: of the owner, or of all who may use the job."""
        wanted = call.decode(messages.SshKeysOf)
        job = self._need([wanted.job_id])[wanted.job_id]
        project = None if job.project is None or wanted.owner else self.directory.project(job.project)
        people = (
            [job.owner] if project is None else [job.owner, *(name for name in project.members if name != job.owner)]
        )
        keys = self.directory.keys(people)
        return {"items": keys, "itemsPerPage": max(50, len(keys)), "next": None}

    def check_existence(self, call: Call) -> Json:
        """``providers.resources.checkExistence``: by the database, where a job is once its create was answered."""
        items = call.decode(messages.ResourceNames).items
        if len(items) > MOST_NAMES:
            raise ProtocolError([f"{len(items)} items are too many"])
        there = {job.id for job in self.jobs.all() if job.confirmed}
        return bulk([item.type == "job" and item.id in there for item in items])

    # -- people ---------------------------------------------------------------------------------------------

    def approve(self, call: Call) -> Json:
        """``providers.im.control.approveConnection``: once for each."""
        username = call.decode(messages.Username).username
        with self.changed:
            if not self.directory.knows(username):
                raise CoreEndsError("a connection of a user whom it does not know")
            if username in self.directory.connected:
                raise CoreEndsError("a connection that is there already")
            self.directory.connect(username)
        return {}

    def clear(self, call: Call) -> Json:
        """``providers.im.control.clearConnection``; nobody has to be connected."""
        self.directory.disconnect(call.decode(messages.Username).username)
        return {}

    # -- money ----------------------------------------------------------------------------------------------

    def charge(self, call: Call) -> Json:
        """``jobs.control.chargeCredits``: usage of periods, nodes and price, absolute for its chargeId."""
        locked = []
        for item in call.decode(messages.Charges).items:
            job = self._need([item.id])[item.id]
            product = self.catalogue.product(job.specification["product"])
            usage = item.periods * (product["price"] if product else 0) * job.specification["replicas"]
            workspace, category = Workspace.of(job.owner, job.project), job.specification["product"]["category"]
            if not item.periods and item.units:
                call.complain("only periods count, and they are 0; units are ignored")
            if not self.accounts.report(workspace, category, usage, scope=item.charge_id, is_delta=False):
                locked.append({"id": item.id})
        return {"insufficientFunds": locked, "duplicateCharges": []}

    def check(self, call: Call) -> Json:
        """``jobs.control.checkCredits``: whether anything is left; amounts are ignored."""
        locked = []
        for item in call.decode(messages.Charges).items:
            job = self._need([item.id])[item.id]
            if self.accounts.locked(Workspace.of(job.owner, job.project), job.specification["product"]["category"]):
                locked.append({"id": item.id})
        return {"insufficientFunds": locked, "duplicateCharges": []}

    def report_usage(self, call: Call) -> Json:
        """``accounting.v2.reportUsage``: one after the other; what was recorded before an error stays."""
        return bulk([self._reported(item) for item in call.decode(messages.UsageReports).items])

    def check_provider_usable(self, call: Call) -> Json:
        """``accounting.v2.checkProviderUsable``: refuses everybody, by a slip that stayed."""
        raise CoreError(403, "Forbidden")

    # -- products -------------------------------------------------------------------------------------------

    def create_products(self, call: Call) -> Json:
        """``products.v2.create``: made, or changed by category and name."""
        products = [json_of(item) for item in call.decode(messages.Products).items]
        if any(product["category"]["provider"] != self.provider for product in products):
            raise CoreError(403, "Forbidden")
        for product in products:
            category = product["category"]
            for sentence in wrong_product(product, self._registered_categories.get(category["name"])):
                call.complain(sentence)
            self._registered_categories.setdefault(category["name"], category)
            self.catalogue.put(product)
        return {}

    def retrieve_product(self, call: Call) -> Json:
        """``products.v2.retrieve``."""
        for key in ("filterName", "filterCategory", "filterProvider"):
            call.asked(key)
        found = self.catalogue.search(call.query)
        if not found:
            raise CoreError(404, "Not found")
        return found[0]

    def browse_products(self, call: Call) -> Json:
        """``products.v2.browse``: there may be a next page with nothing on it."""
        return page(self.catalogue.search(call.query), call.query, lambda product: product, lambda p: p["name"])

    # -- parts ----------------------------------------------------------------------------------------------

    def _need(self, job_ids: Iterable[str]) -> dict[str, CoreJob]:
        known = {job.id: job for job in self.jobs.all()}
        wanted = list(job_ids)
        for job_id in wanted:
            if job_id not in known:
                raise CoreError(404, f"Not found or permission denied ({job_id})")
        return {job_id: known[job_id] for job_id in wanted}

    def _unconfirmed(self, job_ids: Iterable[str]) -> list[str]:
        confirmed = {job.id for job in self.jobs.all() if job.confirmed}
        return sorted(set(job_ids) - confirmed)

    def _mind(self, call: Call, update: messages.JobUpdate, number: int) -> None:
        for name in ("state", "expected_state"):
            state = getattr(update, name)
            if state is not None and state not in self.era.states:
                call.complain(f"items[{number}].update.{to_camel(name)}: {state} is no state; Core stores it unseen")
        for name in ("status", "output_folder"):
            if "\0" in (getattr(update, name) or ""):
                raise CoreEndsError(f"a NUL in items[{number}].update.{to_camel(name)}")

    def _registered(self, item: messages.RegisterItem) -> str:
        generated, owner = item.provider_generated_id or None, item.created_by or SYSTEM
        with self.changed:
            if generated and any(job.provider_generated_id == generated for job in self.jobs.all()):
                raise CoreError(409, "Already exists")
            if item.spec.get("product", {}).get("provider") != self.provider:
                raise CoreError(403, "Forbidden")
            if not self.directory.knows(owner):
                raise CoreEndsError("a job of a user whom it does not know")
            if item.project is not None and self.directory.project(item.project) is None:
                raise CoreEndsError("a job of a project that it does not know")
            return self.jobs.add(item.spec, owner, item.project, confirmed=True, registered_as=generated).id

    def _reported(self, item: messages.UsageItem) -> bool:
        owner, category = item.owner, item.category_id_v2
        by_project = owner.type == "project"
        workspace = Workspace(None, owner.project_id) if by_project else Workspace(owner.username, None)
        known = self.directory.project(owner.project_id) if by_project else self.directory.knows(owner.username)
        if category.provider != self.provider or self.catalogue.category(category.name) is None or not known:
            raise CoreError(403, "Forbidden")
        return self.accounts.report(
            workspace, category.name, item.usage, scope=item.description.scope, is_delta=item.is_delta_charge
        )


def bulk(responses: list[Any]) -> Json:
    """A BulkResponse; an empty one has no key."""
    return {"responses": responses} if responses else {}


def with_part(job: CoreJob, **parts: Any) -> CoreJob:
    """A job with other parts in its specification."""
    return replace(job, specification=job.specification | parts)


def include(query: Mapping[str, str]) -> Include:
    """The flags of a query.

    :raises ProtocolError: 400 for one that is neither true nor false
    """
    flags = {key: truth(value, key) for key, value in query.items() if key.startswith("include")}
    both = flags.get("includeProduct", False) or flags.get("includeSupport", False)
    return Include(
        application=flags.get("includeApplication", False),
        product=both,
        support=both,
        updates=flags.get("includeUpdates", False),
        others=flags.get("includeOthers", False),
        parameters=flags.get("includeParameters", False),
    )


def json_of(message: Any) -> Json:
    """A message as JSON, with all its keys."""
    return {to_camel(key): _json_value(getattr(message, key)) for key in (f.name for f in dataclasses.fields(message))}


def _json_value(value: Any) -> Any:
    return json_of(value) if dataclasses.is_dataclass(value) else value
