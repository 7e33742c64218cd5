"""The drives of the simulated Core, who may use them, and a drive as JSON on the wire (contract: Drive, FSSupport).

Files are not here: only their provider has them.
"""

import posixpath
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.jobs import Jobs
from tests.sandbox.core.today.products import MACHINE_KEYS

Json = dict[str, Any]
SYSTEM = "_ucloud"
"""Who owns a project's drive that the provider announced for nobody."""
OWNER = ("ADMIN", "READ", "EDIT")
PREFERRED = ("h-", "pm-")
"""What the provider's ids of drives begin with that are shown first to those who own them."""
MEMBER_FILES = "Member Files: "
FORBIDDEN = "Write permission is required"
STATS = (
    "sizeInBytes",
    "sizeIncludingChildrenInBytes",
    "visualization",
    "modifiedAt",
    "createdAt",
    "accessedAt",
    "unixPermissions",
    "unixOwner",
    "unixGroup",
)
COLLECTION = ("aclModifiable", "usersCanCreate", "usersCanDelete", "usersCanRename")
FILES = (
    "aclModifiable",
    "trashSupported",
    "isReadOnly",
    "searchSupported",
    "streamingSearchSupported",
    "sharesSupported",
    "openInTerminal",
)
BLOCKS: Mapping[str, tuple[str, ...]] = {"stats": STATS, "collection": COLLECTION, "files": FILES}
FEATURES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "drive.management": (("collection", "usersCanCreate"), ("collection", "usersCanRename")),
    "drive.ops.trash": (("files", "trashSupported"),),
    "drive.stats.size": (("stats", "sizeInBytes"),),
    "drive.stats.timestamps": (("stats", "modifiedAt"), ("stats", "createdAt"), ("stats", "accessedAt")),
    "drive.stats.unix": (("stats", "unixPermissions"), ("stats", "unixOwner"), ("stats", "unixGroup")),
}
"""What users are told -> the flags of which one is enough."""


@dataclass(frozen=True, slots=True)
class CoreDrive:
    """A drive at one moment.

    :ivar owner: the person who created it
    :ivar project: whose it is, or None for the person's own workspace
    :ivar product: ProductReference
    :ivar provider_generated_id: the provider's id, or None
    :ivar created_at: milliseconds since the epoch
    :ivar acl: entries ``{"entity", "permissions"}``
    """

    id: str
    title: str
    product: Json
    owner: str
    project: str | None
    provider_generated_id: str | None
    created_at: int
    labels: Json = field(default_factory=dict)
    acl: tuple[Json, ...] = ()

    @property
    def preferred(self) -> bool:
        """Whether it is shown first to its owner."""
        return (self.provider_generated_id or "").startswith(PREFERRED)

    @property
    def is_of_a_member(self) -> bool:
        """Whether the web client hides it from others."""
        return self.preferred or self.title.startswith(MEMBER_FILES)


class Drives:
    """All drives. Safe for several threads: what it gives out does not change."""

    def __init__(self, changed: threading.Condition, jobs: Jobs, directory: Directory, catalogue: Catalogue) -> None:
        self._changed = changed
        self._jobs = jobs
        self._directory = directory
        self._catalogue = catalogue
        self._drives: dict[str, CoreDrive] = {}
        self.support = DriveSupport(changed)

    # -- what there is --------------------------------------------------------------------------------------

    def all(self) -> list[CoreDrive]:
        """Every drive, by id."""
        with self._changed:
            return list(self._drives.values())

    def get(self, drive_id: str) -> CoreDrive:
        """One drive.

        :raises CoreError: 403, as for one that nobody may see
        """
        with self._changed:
            if drive_id not in self._drives:
                raise CoreError(403, FORBIDDEN)
            return self._drives[drive_id]

    def named(self, provider_generated_id: str) -> CoreDrive:
        """The drive of that provider's id.

        :raises CoreError: 403
        """
        for drive in self.all():
            if drive.provider_generated_id == provider_generated_id:
                return drive
        raise CoreError(403, FORBIDDEN)

    def is_taken(self, provider_generated_id: str) -> bool:
        """Whether a job or a drive has that id of the provider's."""
        with self._changed:
            jobs = {job.provider_generated_id for job in self._jobs.all()}
            return provider_generated_id in jobs | {drive.provider_generated_id for drive in self._drives.values()}

    def add(
        self,
        title: str,
        product: Mapping[str, str],
        owner: str,
        project: str | None = None,
        provider_generated_id: str | None = None,
        *,
        acl: Sequence[Json] = (),
        labels: Mapping[str, str] | None = None,
    ) -> CoreDrive:
        """Make a drive; nothing is checked. Its id is one of all resources."""
        with self._changed:
            drive = CoreDrive(
                id=self._jobs.new_id(),
                title=title,
                product=dict(product),
                owner=owner,
                project=project,
                provider_generated_id=provider_generated_id,
                created_at=self._jobs.now_ms(),
                labels={key.lower(): value for key, value in (labels or {}).items()},
                acl=tuple(acl),
            )
            self._drives[drive.id] = drive
            self._changed.notify_all()
            return drive

    def change(self, drive_id: str, **parts: Any) -> CoreDrive:
        """Have a drive be another one.

        :raises CoreError: 403 when it is gone
        """
        with self._changed:
            made = replace(self.get(drive_id), **parts)
            self._drives[drive_id] = made
            self._changed.notify_all()
            return made

    def remove(self, drive_id: str) -> None:
        """Forget a drive, as if its user had deleted it, or somebody had in Core's database."""
        with self._changed:
            self._drives.pop(drive_id, None)
            self._changed.notify_all()

    # -- who may use it -------------------------------------------------------------------------------------

    def permissions(self, drive: CoreDrive, user: str) -> list[str]:
        """What a user may do with a drive: of ADMIN, READ and EDIT."""
        if drive.project is None:
            if user == drive.owner:
                return list(OWNER)
        else:
            project = self._directory.project(drive.project)
            role = project.members.get(user) if project else None
            if role is None:
                return []
            if user == drive.owner or role in ("PI", "ADMIN"):
                return list(OWNER)
        given = [entry["permissions"] for entry in drive.acl if self._is_of(entry["entity"], drive, user)]
        return [name for name in ("READ", "EDIT") if any(name in names for names in given)]

    def require(self, drive_id: str, user: str, permission: str) -> CoreDrive:
        """A drive with which a user may do something.

        :param permission: READ, EDIT or ADMIN
        :raises CoreError: 403
        """
        drive = self.get(drive_id)
        if permission not in self.permissions(drive, user):
            raise CoreError(403, FORBIDDEN)
        return drive

    def seen(self, user: str, project: str | None = None, *, member_files: bool = False) -> list[CoreDrive]:
        """The drives of a workspace, as a user sees them: those that come first, then by title.

        :param member_files: whether with those of other members of a project
        """
        found = [drive for drive in self.all() if drive.project == project and "READ" in self.permissions(drive, user)]
        found = [drive for drive in found if member_files or drive.owner == user or not drive.is_of_a_member]
        return sorted(found, key=lambda drive: (not (drive.preferred and drive.owner == user), drive.title, int(drive.id)))

    def all_users(self, project: str, *permissions: str) -> Json:
        """The entry of an ACL for all members of a project."""
        entity = {"type": "project_group", "projectId": project, "group": f"{project}-all"}
        return {"entity": entity, "permissions": list(permissions)}

    def _is_of(self, entity: Mapping[str, str], drive: CoreDrive, user: str) -> bool:
        if entity["type"] == "user":
            return entity.get("username") == user
        return entity.get("group") == f"{drive.project}-all"

    # -- as JSON --------------------------------------------------------------------------------------------

    def resolved(self, drive: CoreDrive, user: str | None, *, plain: bool = False, created: bool = False) -> Json:
        """A Drive as it is sent.

        :param user: who acts; None where the provider asks
        :param plain: without product and support, and without the ACL, as in a transfer
        :param created: as in create, where the provider has no id of it yet
        """
        generated = {"providerGeneratedId": drive.provider_generated_id} if drive.provider_generated_id else {}
        mine = list(OWNER) if user is None else [] if created else self.permissions(drive, user)
        product, support = self._catalogue.product(drive.product), self.support.of(drive.product)
        known = None if product is None else stored_product(product)
        full = not plain and known is not None
        return {
            "id": drive.id,
            "createdAt": drive.created_at,
            "owner": {"createdBy": drive.owner, "project": drive.project},
            "permissions": {"myself": mine, "others": [] if plain else list(drive.acl)},
            **generated,
            "specification": {"title": drive.title, "product": dict(drive.product), "labels": dict(drive.labels)},
            "updates": [],
            "status": {
                "preferredDrive": drive.preferred and user in (None, drive.owner),
                "resolvedSupport": (
                    {"product": known, "support": support, "features": self.support.keys(drive.product)}
                    if full and support
                    else None
                ),
                "resolvedProduct": known if full else None,
            },
        }


class DriveSupport:
    """The last good answer of ``files/collections/retrieveProducts``. Safe for several threads."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._by_product: dict[tuple[str, ...], Json] = {}

    def learn(self, elements: Sequence[Json]) -> None:
        """Believe an answer from now on: what is not in it is not there any more."""
        with self._changed:
            self._by_product = {_key(element["product"]): _whole(element) for element in elements}

    def of(self, product: Mapping[str, str]) -> Json | None:
        """The FSSupport of a product, with all its flags."""
        with self._changed:
            return self._by_product.get(_key(product))

    def flag(self, product: Mapping[str, str], block: str, name: str) -> bool:
        """One flag of a product; false where the provider says nothing."""
        support = self.of(product)
        return support is not None and bool(support[block][name])

    def keys(self, product: Mapping[str, str]) -> list[str]:
        """The keys of what a product supports."""
        return [key for key, flags in FEATURES.items() if any(self.flag(product, *flag) for flag in flags)]


def unreadable(elements: Sequence[Any]) -> Iterator[str]:
    """What is of the wrong type in an answer of retrieveProducts. What is missing or null is false."""
    for number, element in enumerate(elements):
        place = f"responses[{number}]"
        product = (element.get("product") or {}) if isinstance(element, dict) else None
        if not isinstance(product, dict) or not all(isinstance(part, str) for part in _key(product)):
            yield f"{place} has no product"
            continue
        for block in BLOCKS:
            flags = element.get(block) or {}
            if not isinstance(flags, dict):
                yield f"{place}.{block} is no object"
            elif not all(value is None or isinstance(value, bool) for value in flags.values()):
                yield f"{place}.{block} has a flag that is neither true, false nor null"


def unknown_flags(elements: Sequence[Json]) -> Iterator[str]:
    """What Core passes over in an answer that it can read, and what it does not survive."""
    for number, element in enumerate(elements):
        place = f"responses[{number}]"
        yield from (f"{place}.{key} is a key that UCloud does not know" for key in element.keys() - {"product", *BLOCKS})
        for block, names in BLOCKS.items():
            flags = element.get(block) or {}
            yield from (f"{place}.{block}.{flag} is a key that UCloud does not know" for flag in flags.keys() - set(names))
        if (element.get("files") or {}).get("streamingSearchSupported"):
            yield f"{place}.files.streamingSearchSupported: one search while the provider is away ends Core"


def drive_of_path(path: str) -> str | None:
    """The id of the drive in a path, as Core finds it: cleaned first, and then without backslashes."""
    clean = posixpath.normpath(path) if path else "."
    return next((part for part in clean.replace("\\", "/").split("/") if part not in ("", ".")), None)


def stored_product(product: Mapping[str, Any]) -> Json:
    """A ProductV2 for storage: without what machines have."""
    kept = {key: value for key, value in product.items() if key not in MACHINE_KEYS}
    return {**kept, "usage": None, "balance": 0, "maxUsableBalance": 0, "pricePerUnit": 0}


def _whole(element: Json) -> Json:
    blocks = {block: {name: bool((element.get(block) or {}).get(name)) for name in names} for block, names in BLOCKS.items()}
    return {"product": element["product"], **blocks}


def _key(product: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(product.get(part) or "" for part in ("id", "category", "provider"))
