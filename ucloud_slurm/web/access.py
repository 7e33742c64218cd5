"""updateAcl: what is given to and taken from users and groups.

Jobs run as one account, so there are no files to share: only sessions and logs that are being followed end here.
"""

from collections.abc import Iterable, Sequence

from ucloud_slurm.provider import Provider
from ucloud_slurm.store.sessions import group, user
from ucloud_slurm.ucloud.jobs import AclEntity, AclUpdate


def update(provider: Provider, items: Sequence[AclUpdate]) -> None:
    """Writes down who has lost access and who has it again. Jobs that are not known here are passed over."""
    now = provider.now()
    with provider.store.writing():
        for item in items:
            if provider.jobs.get(item.resource.id) is None:
                continue
            provider.sessions.remove_access(item.resource.id, _entities(item.deleted), now)
            provider.sessions.give_access(item.resource.id, _entities(entry.entity for entry in item.added))


def _entities(entities: Iterable[AclEntity]) -> list[str]:
    return [
        user(entity.username) if entity.type == "user" else group(entity.project_id, entity.group)
        for entity in entities
    ]
