"""What users of UCloud do with drives, and what the provider hears of it (contract: files.collections.*, shares).

What is done with files in them is not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.sandbox.core.catalogue import Catalogue, reference
from tests.sandbox.core.complaints import Complaints
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.drives import Drives, drive_of_path, unknown_flags, unreadable
from tests.sandbox.core.errors import NOT_SUPPORTED, CoreError
from tests.sandbox.core.provider import ProviderCalls

Json = dict[str, Any]


@dataclass(slots=True)
class DriveActions:
    """The page of drives."""

    calls: ProviderCalls
    drives: Drives
    catalogue: Catalogue
    directory: Directory
    complaints: Complaints

    def retrieve_drive_products(self) -> list[Json]:
        """Ask the provider what it supports with drives, and believe it.

        :return: the FSSupport elements
        :raises CoreError: what the provider answered; the last good answer stays in force
        """
        call = self._name("retrieveProducts")
        found = self.calls.responses(call, self.calls.plain(call))
        wrong = list(unreadable(found))
        for sentence in wrong or unknown_flags(found):
            self.complaints.add(f"{call}: {sentence}")
        if wrong:
            raise CoreError(502, "Invalid response from provider")
        self.drives.support.learn([each for each in found if self._is_storage(each["product"])])
        return found

    def browse_drives(self, user: str = "user", project: str | None = None, *, member_files: bool = False) -> list[Json]:
        """The drives of a workspace as a user sees them.

        :param member_files: whether with those of other members
        """
        return [self.drives.resolved(each, user) for each in self.drives.seen(user, project, member_files=member_files)]

    def create_drive(self, title: str, product: str, user: str = "user", project: str | None = None) -> str:
        """A user makes a drive.

        :param product: by name
        :return: its id
        :raises CoreError: 400 where the provider does not support it, and what it answered; the drive is gone then
        """
        found = next((each for each in self.catalogue.products() if each["name"] == product), None)
        if found is None:
            raise CoreError(400, "Unknown product")
        self._need_management(reference(found))
        self.directory.meet(user, project)
        drive = self.drives.add(title, reference(found), user, project)
        try:
            item = self.drives.resolved(drive, user, created=True)
            data = self.calls.for_user(self._name("create"), {"items": [item]}, user)
            replies = self.calls.responses(self._name("create"), data)
            given = replies[0].get("id") if replies and isinstance(replies[0], dict) else None
            if given:
                self.drives.change(drive.id, provider_generated_id=given)
        except BaseException:
            self.drives.remove(drive.id)
            raise
        return drive.id

    def rename_drive(self, drive_id: str, title: str, user: str = "user") -> None:
        """A user gives a drive another name.

        :raises CoreError: 400 where the provider does not support it, and what it answered
        """
        drive = self.drives.require(drive_id, user, "ADMIN")
        self._need_management(drive.product)
        self.calls.for_user(self._name("rename"), {"items": [{"id": drive_id, "newTitle": title.strip()}]}, user, unit=True)
        self.drives.change(drive_id, title=title.strip())

    def delete_drive(self, drive_id: str, user: str = "user") -> None:
        """A user deletes a drive, whatever the provider supports: only its answer keeps it.

        :raises CoreError: what the provider answered
        """
        drive = self.drives.require(drive_id, user, "EDIT")
        self.calls.for_user(self._name("delete"), {"items": [self.drives.resolved(drive, user)]}, user, unit=True)
        self.drives.remove(drive_id)

    def label_drive(self, drive_id: str, labels: dict[str, str], user: str = "user") -> None:
        """A user changes the labels of a drive; a provider that knows no such call (404) is not asked again.

        :raises CoreError: what the provider answered; the labels stay what they were then
        """
        before = self.drives.require(drive_id, user, "EDIT")
        drive = self.drives.change(drive_id, labels=dict(labels))
        try:
            item = self.drives.resolved(drive, user)
            self.calls.for_user(self._name("onUpdatedLabels"), {"items": [item]}, user, unit=True)
        except CoreError as error:
            if error.status != 404:
                self.drives.change(drive_id, labels=before.labels)
                raise

    def share_folder(self, path: str, with_user: str, permissions: Sequence[str] = ("READ",), user: str = "user") -> None:
        """A user shares a folder of a drive of his own. Core does not look at what the provider supports.

        :raises CoreError: what the provider answered
        """
        drive = self.drives.require(drive_of_path(path) or "", user, "ADMIN")
        if drive.project is not None:
            raise CoreError(400, "Only folders of personal drives can be shared")
        item = {
            "id": "1",
            "createdAt": drive.created_at,
            "owner": {"createdBy": user, "project": None},
            "permissions": {"myself": [], "others": []},
            "specification": {
                "sharedWith": with_user,
                "sourceFilePath": path,
                "permissions": list(permissions),
                "product": drive.product,
            },
            "status": {"shareAvailableAt": None, "state": "PENDING"},
            "updates": None,
        }
        self.calls.for_user(f"shares.provider.{self.calls.provider}.create", {"items": [item]}, user)

    def _need_management(self, product: Json) -> None:
        if "drive.management" not in self.drives.support.keys(product):
            raise CoreError(400, "Not supported", NOT_SUPPORTED)

    def _is_storage(self, product: Json) -> bool:
        known = self.catalogue.product(product)
        return known is not None and known.get("type") == "storage"

    def _name(self, call: str) -> str:
        return f"files.collections.provider.{self.calls.provider}.{call}"
