"""``check``: everything that must be right, tried one after the other, each with what to do if it is not."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ucloud_slurm.bridge import naming
from ucloud_slurm.config import Config, location, own_account, read
from ucloud_slurm.errors import Misconfigured, NotNow, Problem
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.store.database import Store
from ucloud_slurm.ucloud.core import Core, read_refresh_token
from ucloud_slurm.ucloud.tokens import read_keys
from ucloud_slurm.users import service
from ucloud_slurm.users.acting import OwnAccount

Level = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    what: str
    level: Level
    text: str

    @property
    def failed(self) -> bool:
        """Whether it must be mended."""
        return self.level == "failed"

    def line(self) -> str:
        """For people."""
        return f"{self.level:<8} {self.what:<10} {self.text}"

    def as_dict(self) -> dict[str, str]:
        """For programs."""
        return {"what": self.what, "level": self.level, "text": self.text}


def run_checks(path: Path | None) -> list[Finding]:
    """All checks. The later ones need the configuration."""
    where = path or location()
    try:
        config = read(path)
    except Misconfigured as error:
        return [Finding("config", "failed", sentence) for sentence in error.sentences]
    findings = [Finding("config", "ok", f"{where}: {len(config.products)} products, era {config.ucloud.era}")]
    checks: tuple[tuple[str, Callable[[Config], Iterable[tuple[Level, str]]]], ...] = (
        ("account", _account),
        ("database", _database),
        ("keys", _keys),
        ("slurm", _slurm),
        ("sessions", _sessions),
        ("ucloud", _ucloud),
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


def _account(config: Config) -> list[tuple[Level, str]]:
    service.refuse_root()
    person = service.person(config)
    trial = naming.folder(config.jobs.folder, person.home, person.user, f"check-{os.getpid()}")
    OwnAccount().trial(trial)
    found: list[tuple[Level, str]] = [
        ("ok", f"jobs run as {person.user} in {Path(trial).parent}"),
        ("warning", service.WARNING.format(user=person.user)),
    ]
    secrets = (config.ucloud.refresh_token_file, config.database.path)
    found += [
        ("failed", f"{path} can be read by other accounts; chmod 600 {path}")
        for path in secrets
        if path.exists() and path.stat().st_mode & 0o077
    ]
    return found


def _database(config: Config) -> list[tuple[Level, str]]:
    store = Store(config.database.path)
    try:
        number = store.rows("select count(*) as n from jobs")[0]["n"]
    finally:
        store.close()
    free = os.statvfs(config.database.path.parent)
    megabytes = free.f_bavail * free.f_frsize // 2**20
    level: Level = "ok" if megabytes > 100 else "warning"
    return [(level, f"{config.database.path}: {number} jobs, {megabytes} MiB free on its disk")]


def _keys(config: Config) -> list[tuple[Level, str]]:
    keys = read_keys(config.ucloud.public_key_file)
    read_refresh_token(config.ucloud.refresh_token_file)
    return [("ok", f"{len(keys)} public key(s) of UCloud, a refresh token of ours")]


def _slurm(config: Config) -> Iterator[tuple[Level, str]]:
    slurm = Commands(config.slurm.commands, config.slurm.conf, config.slurm.timeout)
    yield "ok", f"Slurm {slurm.version()} in {config.slurm.commands}"
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
    private = settings.get("PrivateData", "none")
    if "jobs" in private:
        yield (
            "warning",
            f"PrivateData={private}: make {own_account()} an Operator, so that it sees all jobs: "
            f"sacctmgr modify user {own_account()} set AdminLevel=Operator",
        )
    if settings.get("AccountingStorageType", "").endswith("none"):
        yield "failed", "Slurm has no accounting database; this release needs one (AccountingStorageType) to know ends"
    else:
        slurm.runs_named(["ucloud-0"], [own_account()], 0)
        if not slurm.is_operator(own_account(), config.slurm.timeout):
            yield (
                "warning",
                f"{own_account()} is not an Operator, so jobs cannot be extended or suspended: "
                f"sacctmgr modify user {own_account()} set AdminLevel=Operator",
            )


def _sessions(config: Config) -> list[tuple[Level, str]]:
    url = config.sessions.url
    if url is None:
        return [("ok", "logs and shells; no web pages of applications (sessions.url)")]
    if url.endswith("*"):
        return [("warning", f"{url}: all sessions share one host, so the page of one application can use what browsers "
                 'keep for the others; better a host name for each, such as "https://*.apps.example.org"')]  # fmt: skip
    return [("ok", f"web pages of applications at {url}")]


def _ucloud(config: Config) -> list[tuple[Level, str]]:
    core = Core(config.ucloud.url, read_refresh_token(config.ucloud.refresh_token_file), now=time.time,
                timeout=config.ucloud.timeout, tries=1, ca_file=config.ucloud.ca_file)  # fmt: skip
    try:
        core.check()
    finally:
        core.close()
    return [("ok", f"{config.ucloud.url} answers and knows us")]
