"""Where UCloud finds what a job has written: UCloud's path of the job's folder, in a drive or in ``[[files]]``.

Contract: ``outputFolder`` of an update of a job.
"""

from ucloud_slurm.errors import Problem
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.users.mapping import slurm_account


def output_folder(provider: Provider, row: OpenJob) -> str | None:
    """UCloud's path of a job's folder; None where UCloud has none of it."""
    if provider.offers_drives:
        from ucloud_slurm.provider.drives import output_folder as in_drive  # a pass without drives starts without it

        return in_drive(provider, row)
    if row.external or not provider.config.files:
        return None
    from ucloud_slurm.bridge.script.inputs import ucloud_path

    product = provider.config.product(row.category, row.product)
    try:
        person = provider.mapping.person(row.local_user)
        account = slurm_account(provider.config.users, provider.people, row.project, row.local_user)
        places = {
            "home": person.home,
            "user": person.user,
            "project": row.project,
            "account": account or (product.account if product else None),
        }
        return ucloud_path(provider.job_paths(row).folder, provider.config.files, places)
    except Problem:
        return None
