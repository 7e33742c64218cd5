"""Jobs that were submitted outside UCloud: which of them are registered there, and as what (contract: register)."""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ucloud_slurm.config import WHO_STARTED, Config, ExternalJobRule
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.slurm.states import Phase
from ucloud_slurm.ucloud.gate import JobRegistration, NamedProject, NamedUser

SYSTEM_OWNER = "_ucloud"  # of a registered job without an owner


class Registration(NamedTuple):
    """A job to be registered.

    :ivar key: the provider's id of it, by which UCloud recognises a repeated registration
    :ivar created_by: the user of UCloud who owns it; None: UCloud's own account
    """

    record: QueueRecord
    rule: ExternalJobRule
    key: str
    created_by: str | None

    @property
    def owner(self) -> str:
        """The owner at UCloud."""
        return self.created_by or SYSTEM_OWNER

    def named(self, owner: NamedUser | None, project: NamedProject | None, provider: str) -> JobRegistration:
        """The job as it is registered.

        :param owner: who has created it
        :param project: of the rule
        """
        return JobRegistration(self.key, owner, project, self.specification(provider))

    def specification(self, provider: str) -> dict[str, Any]:
        """The job in the form of a job that was started at UCloud."""
        hours, minutes = divmod(self.record.minutes or 0, 60)
        limit = {"hours": hours, "minutes": minutes, "seconds": 0} if self.record.minutes else None
        name = re.sub(r"[^\w -]", "_", self.record.name)
        return {
            "application": {"name": self.rule.application, "version": self.rule.version},
            "product": {"id": self.rule.product, "category": self.rule.category, "provider": provider},
            "name": name[:200] or None,
            "replicas": max(1, self.record.nodes),
            "allowDuplicateJob": True,
            "parameters": {},
            "resources": [],
            "timeAllocation": limit,
        }


def registrations(
    records: Iterable[QueueRecord], config: Config, person: Callable[[str, int | None], str | None]
) -> list[Registration]:
    """The jobs that ``[[outside]]`` covers and that have not ended, each with the first rule that matches.

    :param person: the user of UCloud who is the Unix user of that name and uid; None: UCloud does not know them

    squeue lists each task of an array. Those that wait are one job of Slurm's with one number, and are registered once;
    a task gets a number of its own when it starts.
    """
    found: dict[str, Registration] = {}
    for record in records:
        rule = next((rule for rule in config.outside if _matches(rule, record, config)), None)
        if rule is not None and record.state is not None and record.state.phase is not Phase.ENDED:
            key = f"slurm-{record.id}-{record.submitted}"
            if key not in found:
                owner = person(record.user, record.uid) if rule.created_by == WHO_STARTED else rule.created_by
                found[key] = Registration(record, rule, key, owner)
    return list(found.values())


def _matches(rule: ExternalJobRule, record: QueueRecord, config: Config) -> bool:
    product = config.product(rule.category, rule.product)
    # Slurm does not distinguish capitals in the names of accounts, and keeps them in lower case.
    account, partition = record.account.lower(), record.partition
    return product is not None and (account, partition) == (rule.account.lower(), product.partition)
