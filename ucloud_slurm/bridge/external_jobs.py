"""Jobs that were submitted outside UCloud: which of them are shown there, and as what (contract: register)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ucloud_slurm.config import Config, OutsideRule
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.slurm.states import Phase

SYSTEM = "_ucloud"  # who owns a registered job of nobody


@dataclass(frozen=True, slots=True)
class Registration:
    """A job to be registered.

    :ivar key: our own id of it, by which UCloud knows a repetition
    """

    record: QueueRecord
    rule: OutsideRule
    key: str

    @property
    def owner(self) -> str:
        """Whose job it is at UCloud."""
        return self.rule.created_by or SYSTEM

    def specification(self, provider: str) -> dict[str, Any]:
        """The job as UCloud would have specified it."""
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

    def item(self, provider: str) -> dict[str, Any]:
        """The item of jobs.control.register."""
        return {
            "spec": self.specification(provider),
            "providerGeneratedId": self.key,
            "createdBy": self.rule.created_by,
            "project": self.rule.project,
        }


def registrations(records: Iterable[QueueRecord], config: Config) -> list[Registration]:
    """The jobs that the rules of the configuration cover: those that have not ended, each by the first rule."""
    found = []
    for record in records:
        rule = next((rule for rule in config.outside if _covers(rule, record, config)), None)
        if rule is not None and record.state is not None and record.state.phase is not Phase.ENDED:
            found.append(Registration(record, rule, f"slurm-{record.id}-{record.submitted}"))
    return found


def _covers(rule: OutsideRule, record: QueueRecord, config: Config) -> bool:
    product = config.product(rule.category, rule.product)
    return product is not None and (record.account, record.partition) == (rule.account, product.partition)
