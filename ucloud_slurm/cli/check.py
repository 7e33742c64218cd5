"""``check``: tries everything that the provider needs; each finding says what to do about it."""

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from ucloud_slurm.bridge.script.containers import RUNTIMES
from ucloud_slurm.cli.check_accounts import accounts
from ucloud_slurm.cli.check_drives import drives
from ucloud_slurm.cli.check_hooks import hooks
from ucloud_slurm.cli.check_slurm import slurm
from ucloud_slurm.cli.check_web import web
from ucloud_slurm.cli.checking import QUESTION_SECONDS, Budget, findings, open_core
from ucloud_slurm.cli.output import Finding, Level, Line, as_json, moment
from ucloud_slurm.config import Config, location, read
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.provider.modules import ModulesUnavailableError, list_modules
from ucloud_slurm.provider.status import BACKUP_SECONDS
from ucloud_slurm.store.backup import last_made
from ucloud_slurm.store.database_file import free_bytes
from ucloud_slurm.store.fence import Fence
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.filelock import LISTENER, is_locked
from ucloud_slurm.ucloud.eras import ERAS
from ucloud_slurm.ucloud.tokens import read_keys
from ucloud_slurm.worker.modules import LIST_SECONDS


@click.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def check(path: Path | None, json_: bool) -> None:
    """Check the configuration, the web service's socket, the database, the keys, Slurm, UCloud and the Unix users of jobs.

    Jobs of every product are tried with sbatch --test-only, as they are submitted. Programs of hooks are looked at, and
    not run. It takes a minute at most.

    Exits with 1 when a check failed, else with 0. Warnings do not count.
    """
    shown = not json_ and sys.stderr.isatty()
    found = run_checks(path, _show if shown else lambda _text: None)
    if shown:
        _show("")
    if json_:
        as_json([finding.as_dict() for finding in found])
    else:
        for finding in found:
            click.echo(finding.line())
    sys.exit(any(finding.failed for finding in found))


def run_checks(path: Path | None, show: Callable[[str], None] = lambda _text: None) -> list[Finding]:
    """Runs all checks; only the first one where the configuration cannot be used.

    :param show: shows what is being checked
    """
    where = path or location()
    try:
        config = read(path)
    except Misconfigured as error:
        return [Finding("config", "failed", sentence) for sentence in error.sentences]
    budget = Budget(show=show)
    checks: tuple[tuple[str, Callable[[], Iterable[Line]]], ...] = (
        ("account", lambda: accounts(config)),
        ("web", web),
        ("database", lambda: _database(config)),
        ("keys", lambda: _keys(config)),
        ("slurm", lambda: slurm(config, budget)),
        ("software", lambda: software(config)),
        ("sessions", lambda: _sessions(config)),
        ("branding", lambda: _branding(config)),
        ("ucloud", lambda: _ucloud(config)),
        ("channel", lambda: _channel(config)),
        ("drives", lambda: drives(config, budget)),
        ("hooks", lambda: hooks(config)),
    )
    read_ = Finding("config", "ok", f"{where}: {len(config.products)} products, era {config.ucloud.era}")
    return [read_, *findings(checks, budget)]


def _show(text: str) -> None:
    """The progress, in one line of a terminal that the next one overwrites."""
    click.echo(f"\r\033[K{f'checking {text} ...' if text else ''}", err=True, nl=False)


def _database(config: Config) -> Iterator[Line]:
    database = config.database
    store = Store.of(database)
    try:
        number, behind = sum(Jobs(store).count().values()), Generation(store).why_behind()
    finally:
        store.close()
    free = free_bytes(database.path.parent)
    level: Level = "ok" if free >= 2 * database.minimum_free else "warning"
    limit = "" if level == "ok" else f"; below {database.minimum_free // 2**20} MiB new jobs are refused: make space"
    yield level, f"{database.path}: {number} jobs, {free // 2**20} MiB free on its disk{limit}"
    if behind:
        yield "failed", f"{behind}, and nothing is reported to UCloud; run ucloud-slurm reconcile"
    if database.standby is not None and (elsewhere := Fence(database.path).why()) is not None:
        yield "warning", f"this host does not work: {elsewhere}"
    made = last_made(database.path, database.backup_folder)
    if number and (made is None or time.time() - made > BACKUP_SECONDS):
        age = "no backup" if made is None else f"no backup since {moment(made)}"
        yield "warning", f"{age} in {database.backup_folder}: systemctl enable --now ucloud-slurm-backup.timer"


def _keys(config: Config) -> list[Line]:
    keys = read_keys(config.ucloud.public_key_file)
    config.ucloud.refresh_token()
    return [("ok", f"{len(keys)} public key(s) of UCloud, and a refresh token")]


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
    if config.applications.find_modules:
        yield _modules(config)


def _modules(config: Config) -> Line:
    try:
        found = list_modules(config.jobs.modules_init, LIST_SECONDS)
    except ModulesUnavailableError as error:
        return "warning", f"{error}; users see no list of modules (applications.find_modules)"
    return "ok", f"{len(found)} environment modules on this host; make sure that the compute nodes have them"


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


def _branding(config: Config) -> Iterator[Line]:
    branding = config.branding
    if branding.title is None:
        return
    logo = branding.picture()
    yield "ok", f"UCloud shows {branding.title}, {'without a logo' if logo is None else f'with a logo ({logo.type})'}"
    if not ERAS[config.ucloud.era].has_branding:
        yield "warning", f"UCloud of {config.ucloud.era} does not ask for it (ucloud.era)"


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
    core = open_core(config, QUESTION_SECONDS)
    try:
        core.check()
    finally:
        core.close()
    return [("ok", f"{config.ucloud.url} answers and accepts the refresh token")]
