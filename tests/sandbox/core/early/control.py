"""What the provider asks of Core, and the answers.

Contract: jobs.control.*, products.*, auth.providers.refresh.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.sandbox.core.call import Call
from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.early import wire
from tests.sandbox.core.early.browse import matching, page
from tests.sandbox.core.early.credits import Behaviour, Charge, Wallets
from tests.sandbox.core.early.history import after
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreError, ProtocolError
from tests.sandbox.core.jobs import CoreJob, Jobs
from tests.sandbox.core.rendering import Include, JobRendering
from tests.sandbox.core.tokens import Tokens

Json = dict[str, Any]
SYSTEM = "_ucloud"
"""Who owns a registered job of nobody."""


@dataclass(slots=True)
class EarlyControl:
    """The provider's side of Core. Its parts lock themselves; ``changed`` guards what spans several.

    :ivar charging: see :attr:`SimulatedCore.charging`
    """

    provider: str
    era: CoreEra
    changed: threading.Condition
    tokens: Tokens
    jobs: Jobs
    wallets: Wallets
    catalogue: Catalogue
    rendering: JobRendering
    directory: Directory
    charging: Behaviour = "as-documented"

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
            "products.retrieve": self.retrieve_product,
            "products.browse": self.browse_products,
            "providers.im.control.approveConnection": self.approve,
            "providers.im.control.clearConnection": self.clear,
        }

    def refresh(self, call: Call) -> Json:
        """``auth.providers.refresh``."""
        items = wire.received(call, wire.Bulk[wire.RefreshItem]).items
        return {"responses": [{"accessToken": self.tokens.refresh(item.refresh_token)} for item in items]}

    def retrieve(self, call: Call) -> Json:
        """``jobs.control.retrieve``."""
        if "id" not in call.query:
            raise ProtocolError(["the query has no id"])
        job = self.jobs.get(call.query["id"])
        return self.rendering.job(job, include(call.query), permissions=True)

    def browse(self, call: Call) -> Json:
        """``jobs.control.browse``: confirmed jobs only."""
        jobs = matching(self.jobs.all(), call.query)
        wanted = include(call.query)
        return page([self.rendering.job(job, wanted, permissions=True) for job in jobs], call.query)

    def update(self, call: Call) -> Json:
        """``jobs.control.update``."""
        items = wire.received(call, wire.Bulk[wire.UpdateItem]).items
        wrong = [why for number, item in enumerate(items) for why in wire.check_update(item, number, self.era)]
        if wrong:
            raise ProtocolError(wrong)
        for number, item in enumerate(items):
            for sentence in wire.beyond_era(item, number, self.era):
                call.complain(sentence)
        with self.changed:
            before = self.jobs.require(item.id for item in items)
            for item in items:
                self.jobs.change(item.id, partial(self._after, before[item.id].state, item.update))
        return {}

    def charge(self, call: Call) -> Json:
        """``jobs.control.chargeCredits``."""
        items = wire.received(call, wire.Bulk[wire.ChargeItem]).items
        for (job_id, charge_id), times in Counter((item.id, item.charge_id) for item in items).items():
            if times > 1:
                call.complain(f"chargeId {charge_id} is there {times} times for job {job_id}")
        with self.changed:
            charges = self._charges(call, items)
            try:
                result, booked = self.wallets.charge(
                    charges, self.charging, warns_early=self.era.warns_early, now_ms=self.jobs.now_ms()
                )
            finally:
                for conflict in self.wallets.take_conflicts():
                    call.complain(conflict)
            self.jobs.charged(booked)
        return result.body()

    def check(self, call: Call) -> Json:
        """``jobs.control.checkCredits``: a 404 where the era has none."""
        if not self.era.has_check_credits:
            raise CoreError(404, "Not found")
        items = wire.received(call, wire.Bulk[wire.ChargeItem]).items
        return self.wallets.check(self._charges(call, items)).body()

    def register(self, call: Call) -> Json:
        """``jobs.control.register``: jobs that the provider has already, by its own id for them."""
        items = wire.received(call, wire.Bulk[wire.RegisterItem]).items
        with self.changed:
            for number, item in enumerate(items):
                self._admit(item, number)
            return {"responses": [{"id": self._registered(item)} for item in items]}

    def retrieve_product(self, call: Call) -> Json:
        """``products.retrieve``."""
        found = self.catalogue.search(call.query)
        if not found:
            raise CoreError(404, "Not found")
        return found[0]

    def browse_products(self, call: Call) -> Json:
        """``products.browse``."""
        return page(self.catalogue.search(call.query), call.query)

    def approve(self, call: Call) -> Json:
        """``providers.im.control.approveConnection``; the same again is welcome."""
        username = wire.received(call, wire.Approval).username
        self.directory.connect(username)
        return {}

    def clear(self, call: Call) -> Json:
        """``providers.im.control.clearConnection``; nobody has to be connected."""
        if not self.era.has_unlinked:
            raise CoreError(404, "Not found")
        self.directory.disconnect(wire.received(call, wire.Approval).username)
        return {}

    def _after(self, before: str, update: wire.Update, job: CoreJob) -> CoreJob:
        return after(job, before, update, self.jobs.now_ms(), self.era)

    def _charges(self, call: Call, items: Sequence[wire.ChargeItem]) -> list[Charge]:
        jobs = self.jobs.require(item.id for item in items)
        charges = []
        for number, item in enumerate(items):
            multiplier, complaint = wire.multiplier(item, number, self.era)
            if complaint:
                call.complain(complaint)
            job = jobs[item.id]
            product = self.catalogue.product(job.specification["product"])
            price = 0 if product is None or product["freeToUse"] else product["pricePerUnit"]
            charges.append(
                Charge(
                    job_id=item.id,
                    charge_id=item.charge_id,
                    payer=job.payer,
                    units=item.units,
                    multiplier=multiplier,
                    cost=item.units * multiplier * price,
                    performed_by=item.performed_by or job.owner,
                    description=item.description or "Payment",
                )
            )
        return charges

    def _admit(self, item: wire.RegisterItem, number: int) -> None:
        spec = item.spec
        if spec.product.provider != self.provider:
            raise CoreError(400, "Unable to use all requested resources")
        if "," in (item.provider_generated_id or ""):
            raise ProtocolError([f"items[{number}].providerGeneratedId: has a comma"])
        if self.catalogue.application(spec.application.name, spec.application.version) is None:
            raise CoreError(400, f"Unknown application: {spec.application.name} {spec.application.version}")
        if self.catalogue.product(spec.product.model_dump()) is None:
            raise CoreError(400, f"Unknown product: {spec.product.id}")

    def _registered(self, item: wire.RegisterItem) -> str:
        generated = item.provider_generated_id
        if generated is not None:
            for job in self.jobs.all():
                if job.provider_generated_id == generated:
                    return job.id
        owner = item.created_by or SYSTEM
        job = self.jobs.add(item.spec.model_dump(by_alias=True), owner, item.project)
        self.jobs.confirm({job.id: generated})
        return job.id


def include(query: Mapping[str, str]) -> Include:
    """The flags of a query. Exactly ``true`` is true; the application is always sent, whatever they say."""
    return Include(
        application=True,
        product=query.get("includeProduct") == "true",
        support=query.get("includeSupport") == "true",
        updates=query.get("includeUpdates") == "true",
        others=query.get("includeOthers") == "true",
    )
