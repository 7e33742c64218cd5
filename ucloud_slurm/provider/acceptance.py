"""Writing a job down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucloud_slurm.bridge import naming
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.jobs import Phase

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job


def row_of(provider: Provider, job: Job, fingerprint: str, local_user: str, **more: Any) -> dict[str, Any]:
    """A new row for the jobs table.

    :param fingerprint: of the job (:func:`naming.fingerprint`)
    :param local_user: whom it runs as, whatever is said of its owner later
    """
    specification = job.specification
    return {
        "id": job.id,
        "phase": Phase.ACCEPTED,
        "name": naming.slurm_name(job),
        "local_user": local_user,
        "owner": job.owner.created_by,
        "project": job.owner.project,
        "category": specification.product.category,
        "product": specification.product.id,
        "fingerprint": fingerprint,
        "body": job.model_dump_json(by_alias=True, exclude={"status": {"resolved_application", "resolved_product"}}),
        "accepted_at": provider.now(),
        **more,
    }
