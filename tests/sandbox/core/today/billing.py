"""What the provider tells today's Core of usage and products, and the answers (contract: control routes)."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic.alias_generators import to_camel

from tests.sandbox.core.call import Call
from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.errors import CoreEndsError, CoreError
from tests.sandbox.core.jobs import Jobs
from tests.sandbox.core.today import messages
from tests.sandbox.core.today.bodies import received
from tests.sandbox.core.today.browse import page
from tests.sandbox.core.today.control import LONGEST_KEY, bulk, need
from tests.sandbox.core.today.products import MACHINE_KEYS, wrong_product
from tests.sandbox.core.today.quotas import Accounts, Workspace

Json = dict[str, Any]


@dataclass(slots=True)
class TodayBilling:
    """The provider's side of Core's books. Its parts lock themselves."""

    provider: str
    jobs: Jobs
    accounts: Accounts
    catalogue: Catalogue
    directory: Directory
    _registered_categories: dict[str, Json] = field(default_factory=dict)

    def work(self) -> Mapping[str, Callable[[Call], Json]]:
        """What does each call."""
        return {
            "jobs.control.chargeCredits": self.charge,
            "jobs.control.checkCredits": self.check,
            "products.v2.create": self.create_products,
            "products.v2.retrieve": self.retrieve_product,
            "products.v2.browse": self.browse_products,
            "accounting.v2.reportUsage": self.report_usage,
            "accounting.v2.checkProviderUsable": self.check_provider_usable,
        }

    def charge(self, call: Call) -> Json:
        """``jobs.control.chargeCredits``: usage of periods, nodes and price, absolute for its chargeId."""
        locked = []
        for item in received(call, messages.Charges).items:
            job = need(self.jobs, [item.id])[item.id]
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
        for item in received(call, messages.Charges).items:
            job = need(self.jobs, [item.id])[item.id]
            if self.accounts.locked(Workspace.of(job.owner, job.project), job.specification["product"]["category"]):
                locked.append({"id": item.id})
        return {"insufficientFunds": locked, "duplicateCharges": []}

    def report_usage(self, call: Call) -> Json:
        """``accounting.v2.reportUsage``: one after the other; what was recorded before an error stays."""
        return bulk([self._reported(item) for item in received(call, messages.UsageReports).items])

    def check_provider_usable(self, call: Call) -> Json:
        """``accounting.v2.checkProviderUsable``: refuses everybody, by a slip that stayed."""
        raise CoreError(403, "Forbidden")

    # -- products -------------------------------------------------------------------------------------------

    def create_products(self, call: Call) -> Json:
        """``products.v2.create``: made, or changed by category and name."""
        products = [json_of(item) for item in received(call, messages.Products).items]
        if any(product["category"]["provider"] != self.provider for product in products):
            raise CoreError(403, "Forbidden")
        for product in products:
            category = product["category"]
            for sentence in wrong_product(product, self._registered_categories.get(category["name"])):
                call.complain(sentence)
            self._registered_categories.setdefault(category["name"], category)
            storage = product["type"] == "storage"
            self.catalogue.put({key: value for key, value in product.items() if not (storage and key in MACHINE_KEYS)})
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

    def _reported(self, item: messages.UsageItem) -> bool:
        owner, category = item.owner, item.category_id_v2
        by_project = owner.type == "project"
        if not (owner.project_id if by_project else owner.username):
            raise CoreEndsError("usage of an owner without a name")
        if len((item.description.scope or "").encode()) > LONGEST_KEY:
            raise CoreEndsError("a scope that is too long for an index")
        workspace = Workspace(None, owner.project_id) if by_project else Workspace(owner.username, None)
        known = self.directory.project(owner.project_id) if by_project else self.directory.knows(owner.username)
        if category.provider != self.provider or self.catalogue.category(category.name) is None or not known:
            raise CoreError(403, "Forbidden")
        return self.accounts.report(
            workspace, category.name, item.usage, scope=item.description.scope, is_delta=item.is_delta_charge
        )


def json_of(message: Any) -> Json:
    """A message as JSON, with all its keys."""
    return {to_camel(key): _json_value(getattr(message, key)) for key in (f.name for f in dataclasses.fields(message))}


def _json_value(value: Any) -> Any:
    return json_of(value) if dataclasses.is_dataclass(value) else value
