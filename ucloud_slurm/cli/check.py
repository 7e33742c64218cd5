"""``check``: tries everything that the provider needs; each finding says what to do about it."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import click

from ucloud_slurm.bridge.script.containers import RUNTIMES
from ucloud_slurm.cli.check_accounts import accounts, others
from ucloud_slurm.cli.output import Finding, Level, Line, as_json
from ucloud_slurm.config import Config, location, read
from ucloud_slurm.errors import Misconfigured, NotNow, Problem
from ucloud_slurm.slurm import factory
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.records import RunFilter
from ucloud_slurm.slurm.scheduler import Scheduler
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.filelock import LISTENER, is_locked
from ucloud_slurm.ucloud.core import Core
from ucloud_slurm.ucloud.eras import ERAS
from ucloud_slurm.ucloud.tokens import read_keys


@click.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def check(path: Path | None, json_: bool) -> None:
    """Check the configuration, the database, the keys, Slurm, UCloud and the Unix users of jobs.

    Exits with 1 when a check failed, else with 0. Warnings do not count.
    """
    findings = run_checks(path)
    if json_:
        as_json([finding.as_dict() for finding in findings])
    else:
        for finding in findings:
            click.echo(finding.line())
    sys.exit(any(finding.failed for finding in findings))


def run_checks(path: Path | None) -> list[Finding]:
    """Runs all checks; only the first one where the configuration cannot be used."""
    where = path or location()
    try:
        config = read(path)
    except Misconfigured as error:
        return [Finding("config", "failed", sentence) for sentence in error.sentences]
    findings = [Finding("config", "ok", f"{where}: {len(config.products)} products, era {config.ucloud.era}")]
    checks: tuple[tuple[str, Callable[[Config], Iterable[Line]]], ...] = (
        ("account", accounts),
        ("database", _database),
        ("keys", _keys),
        ("slurm", _slurm),
        ("software", software),
        ("sessions", _sessions),
        ("ucloud", _ucloud),
        ("channel", _channel),
    )
    for what, check in checks:
        try:
            for level, text in check(config):
                findings.append(Finding(what, level, text))
        except Misconfigured as error:
            findings += [Finding(what, "failed", sentence) for sentence in error.sentences]
        except (NotNow, Problem) as error:
            findings.append(Finding(what, "failed", str(error)))
    return findings


def _database(config: Config) -> list[Line]:
    store = Store(config.database.path)
    try:
        number = sum(Jobs(store).count().values())
    finally:
        store.close()
    free = os.statvfs(config.database.path.parent)
    megabytes = free.f_bavail * free.f_frsize // 2**20
    level: Level = "ok" if megabytes > 100 else "warning"
    return [(level, f"{config.database.path}: {number} jobs, {megabytes} MiB free on its disk")]


def _keys(config: Config) -> list[Line]:
    keys = read_keys(config.ucloud.public_key_file)
    config.ucloud.refresh_token()
    return [("ok", f"{len(keys)} public key(s) of UCloud, and a refresh token")]


def _slurm(config: Config) -> Iterator[Line]:
    slurm = Commands(config.slurm.commands, config.slurm.conf, config.slurm.timeout)
    yield "ok", f"Slurm {slurm.version()} in {config.slurm.commands}"
    as_wanted, backend = factory.self_test(config.slurm)
    yield ("ok" if as_wanted else "failed"), backend
    partitions = {partition.name: partition for partition in slurm.partitions(config.slurm.timeout)}
    for product in config.products:
        partition = partitions.get(product.partition)
        if partition is None:
            known = ", ".join(sorted(partitions))
            yield "failed", f"product {product.id}: there is no partition {product.partition} (there are {known})"
        elif not partition.up:
            yield "warning", f"product {product.id}: partition {product.partition} is not up"
    settings = slurm.settings()
    message_timeout = int(settings.get("MessageTimeout", "10").split()[0])
    if config.jobs.quiet <= message_timeout:
        yield "failed", f"jobs.quiet must be longer than Slurm's MessageTimeout, {message_timeout} s"
    yield from pace(config, settings)
    private = settings.get("PrivateData", "none")
    if "jobs" in private:
        yield (
            "warning",
            f"PrivateData={private}: make {own_account()} an Operator, so that it sees all jobs: "
            f"sacctmgr modify user {own_account()} set AdminLevel=Operator",
        )
    if settings.get("AccountingStorageType", "").endswith("none"):
        yield (
            "failed",
            "Slurm has no accounting database, which this release needs to see how jobs end: set AccountingStorageType",
        )
    else:
        slurm.runs_since(time.time(), RunFilter(names=frozenset(["ucloud-0"])))
        yield from operator(config, slurm)


def pace(config: Config, settings: Mapping[str, str]) -> Iterator[Line]:
    """Whether submissions respect slurmctld's rate limit (slurm.conf(5): SlurmctldParameters, rl_enable).

    :param settings: as scontrol shows them
    """
    parameters = dict(each.strip().partition("=")[::2] for each in settings.get("SlurmctldParameters", "").split(","))
    if "rl_enable" in parameters and config.slurm.submit_per_second is None:
        rate = parameters.get("rl_refill_rate", "2")
        yield (
            "warning",
            f"SlurmctldParameters has rl_enable, which delays each user beyond {rate} requests a second: set "
            f"slurm.submit_per_second = {rate}",
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


def software(config: Config) -> Iterator[Line]:
    """What applications need. Only this host can be examined, but the compute nodes must have it."""
    runtime = config.containers.runtime
    if runtime == "none":
        yield "ok", "no container runtime: applications with an image are refused"
    elif runtime == "host":
        yield "ok", "applications of the backend DOCKER run without their image"
    else:
        program = RUNTIMES[runtime].begin[0]
        found = shutil.which(program)
        yield (
            ("ok", f"{runtime}: {found}")
            if found
            else ("warning", f"{program} is not on this host; make sure that the compute nodes have it")
        )
    wanted = [("containers.images", folder) for folder in config.containers.images]
    wanted += [("files", root.local) for root in config.files if "{" not in root.local]
    for key, folder in wanted:
        if not Path(folder).is_dir():
            yield "warning", f"{key}: {folder} is not a folder of this host; make sure that the compute nodes have it"


def _sessions(config: Config) -> list[Line]:
    url = config.sessions.url
    if url is None:
        return [("ok", "logs and shells; no web pages of applications (sessions.url)")]
    if url.endswith("*"):
        return [
            (
                "warning",
                f"{url}: all sessions share one host, so the page of one application can use what browsers store for "
                'the others; give each a host name, such as "https://*.apps.example.org"',
            )
        ]
    return [("ok", f"web pages of applications at {url}")]


def _channel(config: Config) -> list[Line]:
    if not ERAS[config.ucloud.era].has_channel:
        return []
    if is_locked(config.database.path, LISTENER):
        return [("ok", "the listener runs")]
    return [
        (
            "warning",
            "the listener does not run, so locked wallets are noticed late: systemctl enable --now ucloud-slurm-listener",
        )
    ]


def _ucloud(config: Config) -> list[Line]:
    core = Core(
        config.ucloud.url,
        config.ucloud.refresh_token(),
        now=time.time,
        timeout=config.ucloud.timeout,
        tries=1,
        ca_file=config.ucloud.ca_file,
    )
    try:
        core.check()
    finally:
        core.close()
    return [("ok", f"{config.ucloud.url} answers and accepts the refresh token")]
