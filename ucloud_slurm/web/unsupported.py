"""Calls of today's UCloud for what a cluster does not have. The answers are immediate and ask nobody.

UCloud asks all providers for the products of each kind every ten seconds, one after the other: a slow provider delays
everybody.
"""

from typing import NoReturn

from ucloud_slurm.errors import Refused
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.ucloud.jobs import Bulk, Job, KeyUploaded
from ucloud_slurm.ucloud.responses import Answers, Nothing
from ucloud_slurm.web.routes import NOT_SUPPORTED, CallRegistry

ABSENT_PRODUCTS = {
    "files/collections": "drives",
    "ingresses": "public links",
    "networkips": "public addresses",
    "licenses": "licences",
    "private-networks": "private networks",
}


def declare(provider: Provider, calls: CallRegistry) -> None:
    """Declares them."""
    for path, what in ABSENT_PRODUCTS.items():
        if path == "files/collections" and provider.offers_drives:
            continue
        calls.call("GET", f"{path}/retrieveProducts", gives=Answers[Nothing], summary=f"The {what}: none.")(_no_products)

    @calls.call("POST", "jobs/onUpdatedLabels", takes=Bulk[Job], gives=Answers[Nothing])
    def labels(bulk: Bulk[Job]) -> Answers[Nothing]:
        """Take note of new labels of jobs: UCloud keeps them."""
        return Answers(responses=[Nothing() for _ in bulk.items])

    @calls.call("POST", "ssh/keyUploaded", takes=KeyUploaded)
    def key_uploaded(_key: KeyUploaded) -> None:
        """Take note of SSH keys of a user: they are not used."""

    @calls.call("POST", "jobs/attachResource", gives=None)
    def attach() -> NoReturn:
        """Refused: nothing can be attached to a job."""
        raise Refused("Nothing can be attached to a job here; start a new job with it.", error_code=NOT_SUPPORTED)

    @calls.call("POST", "jobs/detachResource", gives=None)
    def detach() -> NoReturn:
        """Refused: nothing can be taken from a job."""
        raise Refused("Nothing can be taken from a job of this provider; it ends with the job.", error_code=NOT_SUPPORTED)

    if provider.offers_drives:
        return

    @calls.call("POST", "jobs/openTerminalInFolder", gives=None)
    def open_terminal() -> NoReturn:
        """Refused: there are no folders."""
        raise Refused("This provider has no terminals in folders; start a job and open its shell.", error_code=NOT_SUPPORTED)


def _no_products() -> Answers[Nothing]:
    return Answers(responses=[])
