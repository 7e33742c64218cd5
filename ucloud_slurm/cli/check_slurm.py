"""``check``: Slurm itself, its files, and whether it does what the provider needs."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ucloud_slurm.cli.check_accounts import others
from ucloud_slurm.cli.check_associations import associations
from ucloud_slurm.cli.check_jobs import jobs
from ucloud_slurm.cli.checking import QUESTION_SECONDS, Budget
from ucloud_slurm.cli.output import Line
from ucloud_slurm.config import Config
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.setup.survey import has_accounting, is_there, is_too_old, refill_rate
from ucloud_slurm.slurm import factory
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.records import RunFilter
from ucloud_slurm.slurm.scheduler import Scheduler
from ucloud_slurm.slurm.trial import Trial
from ucloud_slurm.system.accounts import own_account, read_rule, slurm_distrust

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "sacctmgr", "sdiag", "srun")
CONFIGLESS = Path("/run/slurm/conf/slurm.conf")  # where slurmd and sackd keep what the controller sends


def slurm(config: Config, budget: Budget) -> Iterator[Line]:
    """Slurm's files first: without them every question takes long and has no answer."""
    files(config)
    distrusted = list(ownership(config)) if others(config) else []
    yield from distrusted
    slurm = Commands(config.slurm.commands, config.slurm.conf, min(config.slurm.timeout, QUESTION_SECONDS))
    version = slurm.version()
    needed = "; it is too old: 20.11 or newer is needed" if is_too_old(version) else ""
    yield ("failed" if needed else "ok"), f"Slurm {version} in {config.slurm.commands}{needed}"
    as_wanted, backend = factory.self_test(config.slurm)
    yield ("ok" if as_wanted else "failed"), backend
    partitions = {partition.name: partition for partition in slurm.partitions(budget.left())}
    for product in config.products:
        partition = partitions.get(product.partition)
        if partition is None:
            known = ", ".join(sorted(partitions)) or "none"
            yield "failed", f"product {product.id}: there is no partition {product.partition} (there are {known})"
        elif not partition.up:
            yield "warning", f"product {product.id}: partition {product.partition} is not up"
    settings = slurm.settings()
    if config.jobs.quiet <= (seconds := message_timeout(settings)):
        yield "failed", f"jobs.quiet must be longer than Slurm's MessageTimeout, {seconds} s"
    yield from pace(config, settings)
    private = settings.get("PrivateData", "none")
    if "jobs" in private:
        yield (
            "warning",
            f"PrivateData={private}: make {own_account()} an Operator, so that it sees all jobs: "
            f"sacctmgr modify user {own_account()} set AdminLevel=Operator",
        )
    trial = Trial(slurm)
    unfit: frozenset[str] = frozenset()
    missing_role: list[Line] = []
    if not has_accounting(settings):
        yield (
            "failed",
            "Slurm has no accounting database, which this release needs to see how jobs end: set up slurmdbd, and "
            "AccountingStorageType = accounting_storage/slurmdbd",
        )
    else:
        slurm.runs_since(time.time(), RunFilter(names=frozenset(["ucloud-0"])))
        missing_role = list(operator(config, slurm))
        yield from missing_role
        unfit = yield from associations(config, trial, settings, budget)
    if distrusted:
        yield "warning", "no job was tried: the program that acts as users would refuse it"
    else:
        plugins = settings.get("JobSubmitPlugins", "(null)")
        changing = None if plugins in ("", "(null)", "none") or ("failed" in dict(missing_role)) else plugins
        yield from jobs(config, trial, partitions, unfit, budget, plugins=changing)


def message_timeout(settings: Mapping[str, str]) -> int:
    """Slurm's MessageTimeout, in seconds; its default where it cannot be read (slurm.conf(5)).

    :param settings: as scontrol shows them
    """
    found = re.match(r"\d+", settings.get("MessageTimeout", ""))
    return int(found[0]) if found else 10


def files(config: Config) -> None:
    """Whether slurm.conf and Slurm's commands are there.

    :raises Misconfigured: they are not
    """
    conf, folder = config.slurm.conf, config.slurm.commands
    wrong = []
    if not is_there(conf):
        here = f'set slurm.conf = "{CONFIGLESS}"' if is_there(CONFIGLESS) else "write it, or set slurm.conf"
        wrong.append(f"slurm.conf: there is no file {conf}; {here}")
    elif not os.access(conf, os.R_OK):
        wrong.append(f"slurm.conf: {conf} cannot be read by {own_account()}; chmod a+r {conf}")
    missing = [name for name in COMMANDS if not os.access(folder / name, os.X_OK)]
    if missing:
        wrong.append(f"slurm.commands: {folder} has no {', '.join(missing)} that can be run; name the folder that has them")
    if wrong:
        raise Misconfigured(wrong)


def ownership(config: Config) -> Iterator[Line]:
    """Whether the program that acts as users would use Slurm's files, and nobody could change the program."""
    rule = read_rule()
    told = set()
    for key, path in (
        ("slurm.conf", config.slurm.conf),
        *(("slurm.commands", config.slurm.commands / name) for name in ("sbatch", "srun")),
    ):
        found = slurm_distrust(path, rule, os.geteuid())
        if found is not None and found.repair not in told:
            told.add(found.repair)
            yield "failed", f"{key}: {found.why}; jobs are refused until then: {found.repair}"


def pace(config: Config, settings: Mapping[str, str]) -> Iterator[Line]:
    """Whether submissions respect slurmctld's rate limit (slurm.conf(5): SlurmctldParameters, rl_enable).

    :param settings: as scontrol shows them
    """
    rate = refill_rate(settings.get("SlurmctldParameters", ""))
    if rate is not None and config.slurm.submit_per_second is None:
        yield (
            "warning",
            f"SlurmctldParameters has rl_enable, which delays each user beyond {rate:g} requests a second: set "
            f"slurm.submit_per_second = {rate:g}",
        )


def operator(config: Config, slurm: Scheduler) -> Iterator[Line]:
    """Whether Slurm lets us cancel, extend and suspend jobs, which may belong to other users."""
    if slurm.is_operator(own_account(), config.slurm.timeout):
        return
    how = f"sacctmgr modify user {own_account()} set AdminLevel=Operator"
    if others(config):
        yield "failed", f"{own_account()} is not an Operator, so jobs of other users cannot be cancelled: {how}"
    else:
        yield "warning", f"{own_account()} is not an Operator, so jobs cannot be extended or suspended: {how}"
