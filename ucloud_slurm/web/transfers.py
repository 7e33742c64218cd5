"""The links by which browsers fetch and send files, through the file unit (etc/nginx.conf: files/transfer)."""

import os
import secrets
from collections.abc import Sequence
from typing import TypeVar

from ucloud_slurm.bridge.drives import TRANSFER_PATH
from ucloud_slurm.errors import Refused
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.transfers import Transfer, TransferKind, hashed
from ucloud_slurm.ucloud.files import DownloadLink, FileItem, UploadItem, UploadLink, UploadProtocol
from ucloud_slurm.users.files import ConflictPolicy, OpenedFile, OpenedPart
from ucloud_slurm.web.places import Caller, Located, below_the_drive

TOKEN_BYTES = 32
SOCKET_SECONDS = 600.0  # for which a link to a WebSocket is valid: browsers read a whole folder before they open it

Opened = TypeVar("Opened", OpenedFile, OpenedPart)

_SOCKETS = {"WEBSOCKET", "WEBSOCKET_V2"}  # the first stands for both versions


def download_links(provider: Provider, caller: Caller, items: Sequence[FileItem]) -> list[DownloadLink]:
    """Links to files, all or none. Each file is opened once, so that a refusal is shown at UCloud.

    :raises Problem: for the first file that cannot be read
    """
    made: list[Transfer] = []
    links: list[DownloadLink] = []

    def make(item: FileItem) -> None:
        at = below_the_drive(caller.located(item.id, item.resolved_collection))
        opened = caller.ask(at, lambda files, left: _closed(files.read(at.place, within=left)))
        token = secrets.token_urlsafe(TOKEN_BYTES)
        transfer = _transfer(provider, caller, at, token, TransferKind.DOWNLOAD, provider.config.transfers.link)
        made.append(transfer._replace(size=opened.size, modified_at=opened.modified_ns))
        # The web client adds &usernameHint=.
        links.append(DownloadLink(endpoint=f"{_base(provider)}/download?token={token}"))

    caller.each(items, make)
    provider.transfers.create(made)
    return links


def upload_links(provider: Provider, caller: Caller, items: Sequence[UploadItem]) -> list[UploadLink]:
    """Links for uploads, all or none. A file, or folder, is begun here: a browser does not show what is refused later.

    :raises Problem: for the first that cannot be sent
    """
    made: list[Transfer] = []
    links: list[UploadLink] = []

    def make(item: UploadItem) -> None:
        at = below_the_drive(caller.located(item.id, item.resolved_collection, change=True))
        token, protocol = secrets.token_urlsafe(TOKEN_BYTES), _protocol(item)
        made.append(_begun(provider, caller, at, item, protocol, token))
        links.append(UploadLink(endpoint=_endpoint(provider, protocol, token), protocol=protocol, token=token))
        caller.record("begins to send", at)

    try:
        caller.each(items, make)
        provider.transfers.create(made)
    except Exception:
        provider.transfers.abandon(made, provider.now())
        raise
    return links


def _begun(provider: Provider, caller: Caller, at: Located, item: UploadItem, protocol: UploadProtocol, token: str) -> Transfer:
    policy = ConflictPolicy(item.conflict_policy)
    chunked = protocol is UploadProtocol.CHUNKED
    kind = TransferKind.FOLDER if item.type == "FOLDER" else TransferKind.UPLOAD if chunked else TransferKind.FILE
    seconds = provider.config.transfers.resume if chunked else SOCKET_SECONDS
    made = _transfer(provider, caller, at, token, kind, seconds)
    if kind is TransferKind.FOLDER:
        merge = ConflictPolicy.MERGE_RENAME
        name = caller.ask(at, lambda files, left: files.make_folder(at.place, merge, parents=True, within=left))
        return made._replace(parts=(*at.path.parts[:-1], name), policy=policy)
    if kind is TransferKind.FILE:
        return made._replace(policy=policy)
    opened = caller.ask(
        at,
        lambda files, left: _closed(files.begin(at.place, policy, parents=False, within=left)),
        lambda late: provider.files(at.user).drop(at.place, late.name),
    )
    return made._replace(part=opened.name, policy=policy)


def _closed(opened: Opened) -> Opened:
    os.close(opened.descriptor)
    return opened


def _protocol(item: UploadItem) -> UploadProtocol:
    """How the files are sent: what shows errors and can be continued, where there is a choice.

    :raises Refused: the client knows nothing that fits
    """
    known = set(item.supported_protocols)
    if item.type == "FILE" and UploadProtocol.CHUNKED in known:
        return UploadProtocol.CHUNKED
    if known & _SOCKETS:
        return UploadProtocol.WEBSOCKET_V2
    raise Refused(f"supportedProtocols: this provider takes {'a folder' if item.type == 'FOLDER' else 'files'} by others only.")


def _endpoint(provider: Provider, protocol: UploadProtocol, token: str) -> str:
    if protocol is UploadProtocol.CHUNKED:
        return f"{_base(provider)}/upload"
    return f"ws{_base(provider).removeprefix('http')}/folder?token={token}"


def _base(provider: Provider) -> str:
    return f"{provider.config.provider.url.rstrip('/')}/ucloud/{provider.config.provider.id}/{TRANSFER_PATH}"


def _transfer(provider: Provider, caller: Caller, at: Located, token: str, kind: TransferKind, seconds: float) -> Transfer:
    now = provider.now()
    return Transfer(
        token=hashed(token),
        kind=kind,
        username=caller.username,
        local_user=at.user,
        drive_id=at.path.drive_id,
        root=at.place.root,
        parts=at.path.parts,
        created_at=now,
        expires_at=now + seconds,
    )
