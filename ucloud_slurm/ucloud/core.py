"""The calls that a provider makes to UCloud/Core.

Contract: ``jobs.control.*``, ``products.retrieve``, ``accounting.v2.*``, ``providers.*``.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, Refused
from ucloud_slurm.ucloud import gate
from ucloud_slurm.ucloud.drives import Drive, DriveCalls, read_drive
from ucloud_slurm.ucloud.gate import Call, Cleared, JobRegistration, NamedUser, RegisteredProduct, admit
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.products import STORAGE_TYPE, ComputeProduct, ProductPage, ProductReference, ProductV2, collected
from ucloud_slurm.ucloud.reports import Charge
from ucloud_slurm.ucloud.wire import from_data

log = logging.getLogger(__name__)

MAX_FILTER_IDS = 50  # as one text in a query, of at most 20 characters each
M = TypeVar("M")


class ChargeAnswer(NamedTuple):
    """Which jobs of a bulk of charges have no funds, and which charges UCloud had before."""

    insufficient: frozenset[str]
    duplicates: frozenset[str]


class Core(DriveCalls):
    """Calls to UCloud.

    :raises CoreUnavailableError: from every call that was not answered
    :raises CoreRefusedError: from every call that was answered with a 4xx
    """

    def update(self, items: Sequence[Mapping[str, object]]) -> None:
        """``jobs.control.update`` with 1 to 1000 items, all or nothing."""
        self.call(admit(Call.UPDATE, body={"items": list(items)}))

    def charge(self, charges: Sequence[Charge]) -> ChargeAnswer:
        """``jobs.control.chargeCredits`` with 1 to 1000 items. Attempted once: the caller must know what is a repeat.

        :raises CoreRefusedError: with status 402 when the whole bulk was refused for lack of funds
        """
        return self._charge(Call.CHARGE, charges)

    def check_credits(self, charges: Sequence[Charge]) -> ChargeAnswer | None:
        """``jobs.control.checkCredits``: whether these could be paid; None where UCloud does not know the call."""
        try:
            return self._charge(Call.CHECK_CREDITS, charges)
        except CoreRefusedError as error:
            if error.status in (404, 405):
                return None
            raise

    def register(self, jobs: Sequence[JobRegistration]) -> list[str]:
        """``jobs.control.register`` with 1 to 1000 jobs; returns UCloud's ids of them."""
        data = self.call(gate.registration(jobs))
        found = data.get("responses") if isinstance(data, dict) else None
        ids = [entry.get("id") if isinstance(entry, dict) else None for entry in found or []]
        if len(ids) != len(jobs) or not all(isinstance(id_, str) for id_ in ids):
            raise CoreUnavailableError("UCloud's answer to a registration cannot be understood")
        return [str(id_) for id_ in ids]

    def job(self, job_id: str, *, timeout: float | None = None) -> Job | None:
        """``jobs.control.retrieve`` with the application and the product, or None if there is no such job."""
        query = {"id": job_id, "includeApplication": "true", "includeProduct": "true", "includeParameters": "true"}
        data = self._retrieve(Call.RETRIEVE_JOB, query, timeout)
        return None if data is None else _read(Job, data)

    def drive(self, drive_id: str, *, timeout: float | None = None) -> Drive | None:
        """``files.collections.control.retrieve``, or None if this provider has no such drive."""
        data = self._retrieve(Call.RETRIEVE_DRIVE, {"id": drive_id, "includeOthers": "true"}, timeout)
        return None if data is None else read_drive(data)

    def _retrieve(self, call: Call, query: Mapping[str, str], timeout: float | None) -> Any:
        """A resource of this provider; None if there is none. For that today's UCloud says 403, as for a bad token."""
        begun = time.monotonic()
        try:
            return self.call(admit(call, query=query), timeout=timeout)
        except CoreRefusedError as error:
            if error.status == 404:
                return None
            left = None if timeout is None else timeout - (time.monotonic() - begun)
            if error.status == 403 and error.explained and self.admits_us(timeout=left):
                return None
            raise

    def product(self, reference: ProductReference, *, v2: bool = False, timeout: float | None = None) -> ComputeProduct | None:
        """``products.retrieve``, or None if UCloud has no such product.

        :param v2: ``products.v2.retrieve`` instead
        """
        query = {"filterName": reference.id, "filterCategory": reference.category, "filterProvider": reference.provider}
        try:
            call = Call.RETRIEVE_PRODUCT_V2 if v2 else Call.RETRIEVE_PRODUCT
            data = self.call(admit(call, query=query), timeout=timeout)
        except CoreRefusedError as error:
            if error.status == 404:
                return None
            raise
        return _read(ComputeProduct, data)

    def report_usage(self, items: Sequence[Mapping[str, object]]) -> list[bool]:
        """``accounting.v2.reportUsage`` with 1 to 1000 items. Idempotent.

        :returns: for each item whether its wallet has something left
        """
        data = self.call(admit(Call.REPORT_USAGE, body={"items": list(items)}))
        return _booleans(data, len(items), "reportUsage")

    def registered(self, key: str) -> str | None:
        """UCloud's id of the job that was registered with this key."""
        query = {"itemsPerPage": "10", "filterProviderIds": key}
        data = self.call(admit(Call.BROWSE_JOBS, query=query))
        items = data.get("items") if isinstance(data, dict) else None
        return next((_read(Job, item).id for item in items or []), None)

    def existing(self, job_ids: Sequence[str], *, timeout: float | None = None) -> list[bool]:
        """``providers.resources.checkExistence``: for each of 1 to 1000 jobs whether UCloud has it."""
        items = [{"type": "job", "id": job_id} for job_id in job_ids]
        data = self.call(admit(Call.CHECK_EXISTENCE, body={"items": items}), timeout=timeout)
        return _booleans(data, len(job_ids), "checkExistence")

    def admits_us(self, *, timeout: float | None = None) -> bool:
        """Whether UCloud accepts the access token. It answers 403 both to an invalid token and to an invalid request.

        :raises CoreUnavailableError: it does not answer
        """
        try:
            self.existing(["1"], timeout=timeout)
        except CoreRefusedError:
            return False
        return True

    def jobs(self, state: str) -> Iterator[Job]:
        """``jobs.control.browse``: all jobs of this provider in a state of UCloud's, newest first."""
        return self._browse({"filterState": state})

    def states(self, job_ids: Sequence[str]) -> dict[str, str]:
        """``jobs.control.browse``: the states of those of these jobs that UCloud has, by id."""
        parts = [job_ids[start : start + MAX_FILTER_IDS] for start in range(0, len(job_ids), MAX_FILTER_IDS)]
        return {job.id: job.status.state for part in parts for job in self._browse({"filterIds": ",".join(part)})}

    def _browse(self, which: Mapping[str, str]) -> Iterator[Job]:
        query, before = {"itemsPerPage": "250", **which}, set[str]()
        while True:
            page = self.call(admit(Call.BROWSE_JOBS, query=query))
            items = page.get("items") if isinstance(page, dict) else None
            if not isinstance(items, list):
                raise CoreUnavailableError("UCloud's list of jobs cannot be understood")
            for item in items:
                try:
                    yield _read(Job, item)
                except CoreUnavailableError as error:  # about this job only
                    log.warning("a job that UCloud has open is skipped: %s", error)
            if not items or not isinstance(page.get("next"), str):
                return
            if page["next"] in before:
                raise CoreUnavailableError("UCloud's list of jobs has no end: it comes back to a page that was read before")
            before.add(page["next"])
            query = {**query, "next": page["next"]}

    def products_v2(self, provider: str) -> list[ProductV2]:
        """``products.v2.browse``: all products of a provider, of every type."""
        query = {"filterProvider": provider, "itemsPerPage": "1000"}
        return collected(lambda after: _read(ProductPage, self.call(admit(Call.BROWSE_PRODUCTS_V2, query=query | after))))

    def registered_storage(self, provider: str) -> list[RegisteredProduct]:
        """The products of a provider that drives can be of."""
        found = [each for each in self.products_v2(provider) if each.type == STORAGE_TYPE]
        return [RegisteredProduct(each.name, each.category.name, each.category.provider) for each in found]

    def create_products(self, products: Sequence[ProductV2]) -> None:
        """``products.v2.create`` with at least one product; existing products are replaced."""
        self.call(admit(Call.CREATE_PRODUCTS_V2, body={"items": [product.body() for product in products]}))

    def clear_connection(self, user: NamedUser, *, exists: bool, timeout: float) -> Cleared:
        """``providers.im.control.clearConnection``: the user is not connected. Idempotent.

        :param exists: whether UCloud has this call; otherwise its approval is idempotent, and a 404 is as good
        """
        clearing = gate.clearing(user)
        try:
            self.call(clearing.request, timeout=timeout)
        except CoreRefusedError as error:
            if exists or error.status not in (404, 405):
                raise
        return Cleared(clearing)

    def approve_connection(self, cleared: Cleared, *, timeout: float) -> None:
        """``providers.im.control.approveConnection``: the user is connected. Attempted once."""
        self.call(gate.approval(cleared), timeout=timeout)

    def _charge(self, call: Call, charges: Sequence[Charge]) -> ChargeAnswer:
        body = {"items": [charge.body() for charge in charges]}
        data = self.call(admit(call, body=body), timeout=self._timeout)
        if not isinstance(data, dict):
            raise CoreUnavailableError("UCloud's answer to a charge is not an object")
        return ChargeAnswer(_ids(data, "insufficientFunds"), _ids(data, "duplicateCharges"))


def _read(kind: type[M], data: Any) -> M:
    try:
        return from_data(kind, data)
    except Refused as error:
        raise CoreUnavailableError(f"UCloud's answer cannot be understood: {error.why}") from None


def _booleans(data: Any, number: int, call: str) -> list[bool]:
    found = data.get("responses") if isinstance(data, dict) else None
    if not isinstance(found, list) or len(found) != number or not all(isinstance(each, bool) for each in found):
        raise CoreUnavailableError(f"UCloud's answer to {call} cannot be understood")
    return found


def _ids(data: Mapping[str, Any], key: str) -> frozenset[str]:
    found = data.get(key) or []
    if not isinstance(found, list):
        raise CoreUnavailableError(f"UCloud's {key} is not a list")
    return frozenset(str(item["id"]) for item in found if isinstance(item, dict) and "id" in item)
