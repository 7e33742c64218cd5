"""Drives: the messages about them, and the calls that a provider makes (contract: Drive, FSSupport, files.collections)."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, Refused
from ucloud_slurm.ucloud.client import Client
from ucloud_slurm.ucloud.gate import MAX_ITEMS, Call, DriveRegistration, admit, drive_registration
from ucloud_slurm.ucloud.jobs import Owner
from ucloud_slurm.ucloud.products import ProductReference
from ucloud_slurm.ucloud.wire import Message, from_data

CONFLICT = 409
MAX_KEYS = 20  # as one text in a query, of at most 1024 bytes each


class DriveSpecification(Message):
    """What a drive is."""

    title: str = ""
    product: ProductReference


class Drive(Message):
    """A drive as UCloud has it. Who may do what with it is UCloud's, which has checked it before it asks for something.

    :ivar provider_generated_id: the provider's id; empty while it has none
    """

    id: str = Field(min_length=1)
    owner: Owner
    provider_generated_id: str = ""
    specification: DriveSpecification


class StatSupport(Message):
    """What is known of a file. Folders have no size of what is in them, which takes long to find out."""

    size_in_bytes: bool = True
    size_including_children_in_bytes: bool = False
    visualization: bool = False
    modified_at: bool = True
    created_at: bool = True
    accessed_at: bool = True
    unix_permissions: bool = True
    unix_owner: bool = True
    unix_group: bool = True


class CollectionSupport(Message):
    """What users may do with drives: nothing, for they are those of the configuration.

    ``usersCanRename`` would allow users to make drives too.
    """

    acl_modifiable: bool = False
    users_can_create: bool = False
    users_can_delete: bool = False
    users_can_rename: bool = False


class FileSupport(Message):
    """What users may do with files.

    :ivar streaming_search_supported: always false: with it UCloud's process ends when somebody searches while the
        provider cannot be reached
    """

    acl_modifiable: bool = False
    trash_supported: bool
    is_read_only: bool
    search_supported: bool = False
    streaming_search_supported: bool = False
    shares_supported: bool = False
    open_in_terminal: bool


class DriveSupport(Message):
    """The features of the drives of a product (contract: FSSupport)."""

    product: ProductReference
    stats: StatSupport = StatSupport()
    collection: CollectionSupport = CollectionSupport()
    files: FileSupport


class DriveCalls(Client):
    """The calls about drives; a part of :class:`ucloud_slurm.ucloud.core.Core`."""

    def register_drive(self, drive: DriveRegistration) -> str | None:
        """``files.collections.control.register``; returns UCloud's id, or None if it has a resource of this key already."""
        try:
            data = self.call(drive_registration(drive))
        except CoreRefusedError as error:
            if error.status != CONFLICT:
                raise
            return None
        found = data.get("responses") if isinstance(data, dict) else None
        if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
            raise CoreUnavailableError("UCloud's answer to the registration of a drive cannot be understood")
        drive_id = found[0].get("id")
        if not isinstance(drive_id, str) or not drive_id:
            raise CoreUnavailableError("UCloud's answer to the registration of a drive has no id")
        return drive_id

    def drives(self, keys: Sequence[str] | None = None) -> list[Drive]:
        """``files.collections.control.browse``: all drives of this provider, or those with these provider's ids."""
        if keys is None:
            return self._drives({})
        parts = [keys[start : start + MAX_KEYS] for start in range(0, len(keys), MAX_KEYS)]
        return [drive for part in parts for drive in self._drives({"filterProviderIds": ",".join(part)})]

    def _drives(self, which: Mapping[str, str]) -> list[Drive]:
        found: list[Drive] = []
        query, before = {"itemsPerPage": str(MAX_ITEMS), "includeOthers": "true", **which}, set[str]()
        while True:
            page = self.call(admit(Call.BROWSE_DRIVES, query=query))
            items = page.get("items") if isinstance(page, dict) else None
            if not isinstance(items, list):
                raise CoreUnavailableError("UCloud's list of drives cannot be understood")
            found += [read_drive(item) for item in items]
            if not items or not isinstance(page.get("next"), str):
                return found
            if page["next"] in before:
                raise CoreUnavailableError("UCloud's list of drives has no end: it comes back to a page that was read before")
            before.add(page["next"])
            query = {**query, "next": page["next"]}


def read_drive(data: Any) -> Drive:
    """A drive in an answer of UCloud's.

    :raises CoreUnavailableError: it is none
    """
    try:
        return from_data(Drive, data)
    except Refused as error:
        raise CoreUnavailableError(f"UCloud's answer about a drive cannot be understood: {error.why}") from None
