"""openInteractiveSession: links that work once, to shells, web pages and screens of running jobs.

And openTerminalInFolder: to shells in folders of drives, on this host, as the user who asks. A site decides for each drive
whether there are any (``terminal``): such a shell is a login that passes the site's own way to log in. Who its user is and
where the folder is are found out again when it is opened.
"""

import secrets
import time
from collections.abc import Sequence

from ucloud_slurm.bridge import naming
from ucloud_slurm.bridge.drives import DrivePath, drive_path
from ucloud_slurm.bridge.script.build import LISTENING
from ucloud_slurm.errors import Conflict, Forbidden, NotFound, Refused, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.drives import ResolvedPlace, resolve
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.identity import BuiltJob
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.sessions import Kind, Session
from ucloud_slurm.ucloud.applications import Application
from ucloud_slurm.ucloud.files import DriveReference, TerminalItem
from ucloud_slurm.ucloud.jobs import SessionItem
from ucloud_slurm.ucloud.responses import ShellSession, VncSession, WebSession
from ucloud_slurm.users.file_problems import problem
from ucloud_slurm.users.files import FileKind
from ucloud_slurm.web.access import check, check_shell
from ucloud_slurm.web.control import present
from ucloud_slurm.web.places import Caller
from ucloud_slurm.web.routes import NOT_SUPPORTED

TOKEN_BYTES = 32
PLACE = "_ucloud"  # first part of the provider's own paths on the host of a session (etc/nginx-sessions.conf)

Opened = ShellSession | WebSession | VncSession


def open_session(provider: Provider, items: Sequence[SessionItem], username: str | None) -> list[Opened]:
    """Creates the sessions, all or none.

    :param username: the acting user of UCloud
    :raises Problem: for the first refused item
    :raises SchedulerUnavailableError: Slurm does not answer
    """
    deadline = provider.deadline()
    lookup = Lookup(provider, deadline)
    if not provider.breaker.allows(SLURM, provider.now()):
        raise SchedulerUnavailableError("Slurm did not answer a moment ago")
    made: list[tuple[Session, str, Opened]] = []
    for item in items:
        row, record = present(provider, item.job, deadline - time.monotonic())
        access = provider.sessions.access([row.id])
        if row.id in access and access[row.id].refused(username):
            raise Forbidden("You have no access to this job any more.")
        check(provider, row, username, item.job)
        kind = Kind(item.session_type)
        if kind is Kind.SHELL:
            check_shell(provider, row, username, deadline - time.monotonic())
        _check_running(record, item)
        application = None if kind is Kind.SHELL else lookup.application(row.job)
        _check_application(provider, kind, application, item.target)
        made.append(_session(provider, item, kind, row, record, application, username, deadline))
    with provider.store.writing():
        for session, token, _ in made:
            provider.sessions.create(session, token)
    return [opened for _, _, opened in made]


def shell_session(provider: Provider, job_id: str, rank: int, token: str) -> ShellSession:
    """What a browser needs to open a shell.

    :param job_id: empty for a shell that is of no job
    """
    domain = f"ws{provider.config.provider.url.rstrip('/').removeprefix('http')}"
    return ShellSession(job_id=job_id, rank=rank, session_identifier=token, domain_override=domain)


def _check_running(record: QueueRecord, item: SessionItem) -> None:
    if record.state is SlurmState.SUSPENDED:
        raise Conflict("The job is suspended; resume it first.")
    if record.state is not SlurmState.RUNNING:
        raise Conflict("The job is not running yet.")
    if item.rank >= record.nodes:
        raise Refused(f"rank: the job has {record.nodes} node(s), so its ranks are 0 to {record.nodes - 1}.")


def _check_application(provider: Provider, kind: Kind, application: Application | None, target: str | None) -> None:
    if application is None:
        return
    url = provider.config.sessions.url
    if url is None or (target is not None and url.endswith("*")):
        raise Refused("This provider does not offer web pages and screens of applications.", error_code=NOT_SUPPORTED)
    if target is None and (application.invocation.application_type != kind or kind not in LISTENING):
        raise Refused(
            f"The application has no {'web page' if kind is Kind.WEB else 'screen'} (it is of the type "
            f"{application.invocation.application_type}).",
            error_code=NOT_SUPPORTED,
        )


def _port(item: SessionItem, kind: Kind, row: JobRow) -> int | None:
    """The port of a further page; None where the application's own is asked for.

    :raises NotFound: the job has no such page
    """
    if item.target is None or kind is Kind.SHELL:
        return None
    built = BuiltJob.read(row.built)
    ports = {(rank, name): port for rank, name, port in built.pages} if built is not None else {}
    if kind is not Kind.WEB or (item.rank, item.target) not in ports:
        raise NotFound(f"target: the job has no page {one_line(item.target, 60)} on node {item.rank}.")
    return ports[item.rank, item.target]


def _session(
    provider: Provider,
    item: SessionItem,
    kind: Kind,
    row: JobRow,
    record: QueueRecord,
    application: Application | None,
    username: str | None,
    deadline: float,
) -> tuple[Session, str, Opened]:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    url = provider.config.sessions.url
    label, address, port = "", None, _port(item, kind, row)
    opened: Opened
    if application is None or url is None:
        opened = shell_session(provider, row.id, item.rank, token)
    else:
        label = naming.label(url, row.id, item.rank, secrets.token_hex(8))
        address = provider.scheduler.nodes(record.node_list, deadline - time.monotonic())[item.rank].address
        base = f"{url.replace('*', label)}/{PLACE}"
        if kind is Kind.WEB:
            link = f"{base}/enter?token={token}"
            opened = WebSession(job_id=row.id, rank=item.rank, redirect_client_to=link)
        else:
            link = f"ws{base.removeprefix('http')}/vnc?token={token}"
            password = application.invocation.vnc.password
            opened = VncSession(job_id=row.id, rank=item.rank, url=link, password=password)
    session = Session(
        token="",
        job_id=row.id,
        rank=item.rank,
        kind=kind,
        username=username,
        label=label,
        address=address,
        run=record.submitted,
        created_at=provider.now(),
        port=port,
    )
    return session, token, opened


def open_terminals(provider: Provider, caller: Caller, items: Sequence[TerminalItem]) -> list[ShellSession]:
    """Creates the sessions, all or none. Each folder is looked at once, so that a refusal is shown at UCloud.

    :raises Problem: for the first folder that gets no shell
    """
    made = [(_in_folder(provider, caller, item), secrets.token_urlsafe(TOKEN_BYTES)) for item in items]
    with provider.store.writing():
        for session, token in made:
            provider.sessions.create(session, token)
    return [shell_session(provider, "", 0, token) for _, token in made]


def _in_folder(provider: Provider, caller: Caller, item: TerminalItem) -> Session:
    path = drive_path(item.folder)
    at = caller.located(item.folder, DriveReference(id=path.drive_id))
    check_offered(at.drive)
    entry = caller.ask(at, lambda files, left: files.stat(at.place, within=left))
    if FileKind.FOLDER not in (entry.kind, entry.target):
        raise problem("no-folder", path.parts)
    return Session(
        token="",
        job_id="",
        rank=0,
        kind=Kind.SHELL,
        username=caller.username,
        label="",
        address=None,
        run=None,
        created_at=provider.now(),
        drive_id=path.drive_id,
        parts=path.parts,
    )


def check_offered(found: ResolvedPlace) -> None:
    """Refuses a shell in a drive that has none.

    :raises Refused: it has none
    """
    if not found.rule.terminal:
        raise Refused(
            "This provider has no terminals in the folders of this drive; start a job and open its shell.",
            error_code=NOT_SUPPORTED,
        )


def resolved_again(provider: Provider, session: Session) -> ResolvedPlace:
    """The folder of a session, and who acts there, as both are now.

    :raises Problem: see :func:`ucloud_slurm.provider.drives.resolve`; or the drive has no shells any more
    """
    found = resolve(provider, DrivePath(session.drive_id or "", session.parts), session.username or "")
    check_offered(found)
    return found
