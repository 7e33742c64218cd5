"""What the provider asks of today's Core about drives, and the answers (contract: files.collections.control.*)."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.sandbox.core.call import Call
from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.drives import SYSTEM, CoreDrive, Drives
from tests.sandbox.core.errors import CoreEndsError, CoreError, ProtocolError
from tests.sandbox.core.today import messages
from tests.sandbox.core.today.bodies import received, truth
from tests.sandbox.core.today.browse import MOST_IDS, page
from tests.sandbox.core.today.control import LONGEST_KEY, Json, bulk

LONGEST_TITLE = 4096


@dataclass(slots=True)
class DriveControl:
    """The provider's side of drives. Its parts lock themselves; ``changed`` guards what spans several."""

    provider: str
    changed: threading.Condition
    drives: Drives
    directory: Directory
    catalogue: Catalogue

    def work(self) -> Mapping[str, Callable[[Call], Json]]:
        """What does each call."""
        return {
            "files.collections.control.register": self.register,
            "files.collections.control.browse": self.browse,
            "files.collections.control.retrieve": self.retrieve,
            "files.collections.control.updateLabels": self.update_labels,
        }

    def register(self, call: Call) -> Json:
        """``files.collections.control.register``: one after the other; what was registered before an error stays."""
        items = received(call, messages.DriveRegistrations).items
        if len(items) > 1:
            call.complain(f"{len(items)} drives in one bulk; the ids of the first ones are lost when one is refused")
        return bulk([{"id": self._registered(call, item).id} for item in items])

    def browse(self, call: Call) -> Json:
        """``files.collections.control.browse``: the newest first."""
        query = {key: value for key, value in call.query.items() if value}
        for key, value in query.items():
            if key.startswith("include"):
                truth(value, key)
        wanted = query["filterProviderIds"].split(",") if "filterProviderIds" in query else None
        if wanted is not None and len(wanted) > MOST_IDS:
            raise ProtocolError([f"filterProviderIds has {len(wanted)} ids, which are too many"])
        found = [each for each in self._ours() if wanted is None or each.provider_generated_id in wanted]
        return page(list(reversed(found)), query, lambda drive: self.drives.resolved(drive, None))

    def retrieve(self, call: Call) -> Json:
        """``files.collections.control.retrieve``: drives of other providers are refused like those that are gone."""
        drive = self.drives.get(call.asked("id"))
        if drive not in self._ours():
            raise CoreError(403, "Write permission is required")
        return self.drives.resolved(drive, None)

    def update_labels(self, call: Call) -> Json:
        """``files.collections.control.updateLabels``."""
        for item in received(call, messages.Labels).items:
            self.drives.change(item.id, labels=dict(item.labels))
        return {}

    def _ours(self) -> Sequence[CoreDrive]:
        return [drive for drive in self.drives.all() if drive.product.get("provider") == self.provider]

    def _registered(self, call: Call, item: messages.DriveItem) -> CoreDrive:
        generated, owner, project = item.provider_generated_id, item.created_by or SYSTEM, item.project or None
        product = {"id": item.spec.product.id, "category": item.spec.product.category, "provider": item.spec.product.provider}
        with self.changed:
            if generated and self.drives.is_taken(generated):
                raise CoreError(409, "Already exists")
            if product["provider"] != self.provider:
                raise CoreError(403, "Forbidden")
            self._check(call, item, product)
            if len((generated or "").encode()) > LONGEST_KEY:
                raise CoreEndsError("an id that is too long for an index")
            if not 1 <= len(item.spec.title) <= LONGEST_TITLE:
                raise CoreEndsError(f"a title of a drive that has not 1 to {LONGEST_TITLE} characters")
            if not self.directory.knows(owner):
                raise CoreEndsError("a drive of a user whom it does not know")
            if project is not None and self.directory.project(project) is None:
                raise CoreEndsError("a drive of a project that it does not know")
            names = [name for name, on in (("READ", item.project_all_read), ("EDIT", item.project_all_write)) if on]
            acl = [self.drives.all_users(project, *names)] if project is not None and names else []
            return self.drives.add(
                item.spec.title, product, owner, project, generated or None, acl=acl, labels=item.spec.labels
            )

    def _check(self, call: Call, item: messages.DriveItem, product: Mapping[str, str]) -> None:
        """What Core takes, and what the provider will be sorry for."""
        known = self.catalogue.product(product)
        if known is None or known.get("type") != "storage":
            call.complain(f"the drive {item.spec.title!r} is of a product that UCloud does not have: nobody has it later")
        if not item.provider_generated_id:
            call.complain("a drive without an id of the provider's is registered again and again")
        if "," in (item.provider_generated_id or ""):
            call.complain("a provider's id with a comma cannot be looked for")
        if any(ord(character) < 32 for character in item.spec.title):
            call.complain("a title has a control character")
