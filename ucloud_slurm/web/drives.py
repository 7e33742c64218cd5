"""The calls of UCloud about drives (contract: files.collections.provider, shares). The answers are immediate.

Drives are those of the configuration: users make, rename, share and delete none. UCloud asks nobody before it deletes one
but this provider, whose answer must be a refusal.
"""

from collections.abc import Sequence
from typing import NoReturn

from ucloud_slurm.errors import Refused
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.ucloud.drives import Drive, DriveSupport, FileSupport
from ucloud_slurm.ucloud.jobs import Bulk
from ucloud_slurm.ucloud.products import ProductReference
from ucloud_slurm.ucloud.responses import Answers, Nothing
from ucloud_slurm.web.routes import NOT_SUPPORTED, CallRegistry


def declare(provider: Provider, calls: CallRegistry) -> None:
    """Declares them, for a provider that offers drives."""
    support = Answers[DriveSupport](responses=_support(provider))

    @calls.call("GET", "files/collections/retrieveProducts", gives=Answers[DriveSupport])
    def retrieve_products() -> Answers[DriveSupport]:
        """List the products of drives and what each supports."""
        return support

    @calls.call("POST", "files/collections", gives=None)
    def create() -> NoReturn:
        """Refused: drives are made by the provider."""
        raise Refused(
            "Drives of this provider are folders of the cluster, and are made by the provider. Make a folder in a drive.",
            error_code=NOT_SUPPORTED,
        )

    @calls.call("POST", "files/collections/rename", gives=None)
    def rename() -> NoReturn:
        """Refused: the names of drives are those of the configuration."""
        raise Refused("Drives of this provider keep their names.", error_code=NOT_SUPPORTED)

    @calls.call("DELETE", "files/collections", gives=None)
    def delete() -> NoReturn:
        """Refused: UCloud would forget the drive for ever."""
        raise Refused(
            "This drive is a folder of the cluster and cannot be deleted in UCloud. Delete the files in it instead.",
            error_code=NOT_SUPPORTED,
        )

    @calls.call("POST", "files/collections/onUpdatedLabels", takes=Bulk[Drive], gives=Answers[Nothing])
    def labels(bulk: Bulk[Drive]) -> Answers[Nothing]:
        """Take note of new labels of drives: UCloud keeps them."""
        return _nothing(bulk.items)

    @calls.call("POST", "files/collections/verify", takes=Bulk[Drive], gives=Answers[Nothing])
    def verify(bulk: Bulk[Drive]) -> Answers[Nothing]:
        """Compare drives: there is nothing in them that UCloud could show wrongly."""
        return _nothing(bulk.items)

    @calls.call("POST", "files/collections/updateAcl", gives=None)
    def update_acl() -> NoReturn:
        """Refused: on the cluster its own rights count."""
        raise Refused(
            "Who may use a drive of this provider cannot be changed in UCloud: on the cluster the rights of its folders count.",
            error_code=NOT_SUPPORTED,
        )

    @calls.call("POST", "shares", gives=None)
    def share() -> NoReturn:
        """Refused: folders are not shared through UCloud."""
        raise Refused(
            "Folders of this provider cannot be shared through UCloud; use a folder of a project.", error_code=NOT_SUPPORTED
        )

    @calls.call("DELETE", "shares", gives=None)
    def end_share() -> NoReturn:
        """Refused: there are none."""
        raise Refused("This provider has no shared folders.", error_code=NOT_SUPPORTED)


def _support(provider: Provider) -> list[DriveSupport]:
    name = provider.config.provider.id
    return [
        DriveSupport(
            product=ProductReference(id=rule.product_id, category=rule.category, provider=name),
            files=FileSupport(is_read_only=rule.read_only, trash_supported=not rule.read_only, open_in_terminal=rule.terminal),
        )
        for rule in provider.config.drives
    ]


def _nothing(items: Sequence[Drive]) -> Answers[Nothing]:
    return Answers(responses=[Nothing() for _ in items])
