"""What Slurm says of a cluster that is to become a provider."""

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ucloud_slurm.config import SlurmSection, parse_table
from ucloud_slurm.errors import Misconfigured, one_line
from ucloud_slurm.setup.proposal import is_word
from ucloud_slurm.setup.step import ACCOUNT
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.inventory import Inventory, Machine, PartitionRules

PLACES = (Path("/etc/slurm/slurm.conf"), Path("/etc/slurm-llnl/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))
SECONDS = 20.0  # for one answer
OLDEST = (20, 11)


class Survey(NamedTuple):
    """A cluster.

    :ivar cluster: its name; empty where slurm.conf does not have it
    :ivar accounts: Slurm accounts of the service's own user
    :ivar refill_rate: requests in a second that slurmctld allows each user (slurm.conf(5): rl_enable); None: any number
    """

    version: str
    cluster: str
    machines: tuple[Machine, ...]
    partitions: tuple[PartitionRules, ...]
    accounts: tuple[str, ...]
    refill_rate: float | None


def slurm_section(given: Mapping[str, Path | None], before: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of ``slurm`` that say where it is.

    :param given: ``conf`` and ``commands``, None where they are to be found
    :param before: the table of a configuration that is there
    """
    section = dict(before)
    conf, commands = given.get("conf"), given.get("commands")
    if conf is not None:
        section["conf"] = str(conf.absolute())
    elif "conf" not in section:
        named = os.environ.get("SLURM_CONF")
        places = [Path(named)] if named else [place for place in PLACES if is_there(place)]
        section["conf"] = str(places[0] if places else PLACES[0])
    if commands is not None:
        section["commands"] = str(commands.absolute())
    elif "commands" not in section:
        found = shutil.which("sinfo")
        section["commands"] = str(Path(found).parent) if found else "/usr/bin"
    return section


def survey(table: Mapping[str, Any]) -> Survey:
    """Asks Slurm.

    :param table: ``slurm`` of the configuration
    :raises Misconfigured: Slurm cannot be used by a provider, or its files are not there
    :raises SchedulerUnavailableError: Slurm gives no answer
    """
    section = parse_table(SlurmSection, table)
    if not is_there(section.conf):
        raise Misconfigured([f"slurm.conf: there is no file {section.conf}; name it with --slurm-conf."])
    if not os.access(section.commands / "sinfo", os.X_OK):
        raise Misconfigured([f"slurm.commands: {section.commands} has no sinfo; name Slurm's folder with --slurm-commands."])
    slurm = Commands(section.commands, section.conf, min(section.timeout, SECONDS))
    slurm.ping(SECONDS)
    settings = slurm.settings()
    if not has_accounting(settings):
        found = settings.get("AccountingStorageType", "not known")
        raise Misconfigured(
            [
                f"Slurm has no accounting database (AccountingStorageType = {one_line(found, 80)}), which is needed to see "
                "how jobs end and what they used. Set up slurmdbd (https://slurm.schedmd.com/accounting.html), then run "
                "setup again."
            ]
        )
    version = slurm.version()
    if is_too_old(version):
        raise Misconfigured([f"Slurm {version} is too old; Slurm 20.11 or newer is needed."])
    inventory = Inventory(slurm)
    return Survey(
        version=version,
        cluster=slurm.cluster or "",
        machines=tuple(inventory.machines(SECONDS)),
        partitions=tuple(limited(partition, settings) for partition in inventory.partitions(SECONDS)),
        accounts=tuple(filter(is_word, slurm.accounts(ACCOUNT, SECONDS))),
        refill_rate=refill_rate(settings.get("SlurmctldParameters", "")),
    )


def is_there(path: Path) -> bool:
    """Whether a file is there, and its folder open to this account."""
    return os.access(path, os.F_OK) and path.is_file()


def has_accounting(settings: Mapping[str, str]) -> bool:
    """Whether jobs are recorded. Only slurmdbd does it; without it newer releases show ``(null)`` (slurm.conf(5)).

    :param settings: as scontrol(1) shows them
    """
    return settings.get("AccountingStorageType", "").endswith("slurmdbd")


def is_too_old(version: str) -> bool:
    """Whether a release of Slurm is older than those that are supported; False where it is not known."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < OLDEST


def limited(partition: PartitionRules, settings: Mapping[str, str]) -> PartitionRules:
    """The limits on memory of the whole cluster, for a partition that has none of its own.

    :param settings: as scontrol(1) shows them
    """
    if partition.memory_max is not None or partition.memory_per_cpu is not None:
        return partition
    node, cpu = (settings.get(name, "") for name in ("MaxMemPerNode", "MaxMemPerCPU"))
    return partition._replace(
        memory_max=int(node) if node.isdigit() else None, memory_per_cpu=int(cpu) if cpu.isdigit() else None
    )


def refill_rate(parameters: str) -> float | None:
    """The rate in SlurmctldParameters of slurm.conf(5), in requests a second; None without a limit."""
    words = dict(each.strip().partition("=")[::2] for each in parameters.split(","))
    if "rl_enable" not in words:
        return None
    with suppress(ValueError):
        return float(words.get("rl_refill_rate") or 2)
    return 2.0
