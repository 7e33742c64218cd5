"""The route of a WebSocket for uploads: who may open it, how it goes on, and what is said of it in the end."""

import logging
import socket
import time

from wsproto.utilities import generate_accept_token

from ucloud_slurm.errors import Conflict, NotFound, NotNow, Problem, Refused, one_line
from ucloud_slurm.store.transfers import Transfer, TransferKind, TransferOutcome
from ucloud_slurm.transfer.exchange import Exchange
from ucloud_slurm.transfer.folder import FolderUpload
from ucloud_slurm.transfer.messages import UploadMessages, UploadProtocolError
from ucloud_slurm.transfer.unit import GoneError, Unit
from ucloud_slurm.transfer.websocket import FAILED, NORMAL, SocketClosedError, WebSocket

LINGER_SECONDS = 3.0  # for which a browser may announce more, after something has failed
IDLE_SECONDS = 600.0  # for which it may send nothing

log = logging.getLogger(__name__)


def folder_socket(unit: Unit, exchange: Exchange) -> list[bytes]:
    """Answers the handshake, and takes files until the browser closes the connection.

    :raises Problem: the link does not work
    """
    exchange.check_origin()
    key, sock = exchange.header("Sec-WebSocket-Key"), exchange.socket
    if (exchange.header("Upgrade") or "").lower() != "websocket" or not key or sock is None:
        raise Refused("A WebSocket is opened here.", status=426)
    transfers = unit.provider.transfers
    transfer = transfers.find(exchange.token)
    if transfer is None or transfer.kind not in (TransferKind.FOLDER, TransferKind.FILE):
        raise NotFound("There is no such upload. Please begin it again at UCloud.")
    if transfer.expires_at < unit.provider.now() or transfer.ended_at is not None:
        raise GoneError("This link is not valid any more. Please begin the upload again at UCloud.")
    with unit.admission.admit(transfer.username):
        target, files = unit.checked(transfer), unit.files(transfer)
        now = unit.provider.now()
        resume = unit.provider.config.transfers.resume
        until = now + resume
        if not transfers.use(transfer, now, until):
            raise Conflict("This link has been used. Please begin the upload again at UCloud.")
        transfer = transfer._replace(used_at=now, expires_at=until)
        accept = generate_accept_token(key.encode("latin-1", "replace")).decode()
        exchange.head(101, [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)])
        upload = FolderUpload(transfer, files, target, transfers, lambda: unit.provider.now() + resume)
        _serve(unit, sock, transfer, upload)
    return []


def _serve(unit: Unit, sock: socket.socket, transfer: Transfer, upload: FolderUpload) -> None:
    connection = WebSocket(sock)
    trouble = ""
    try:
        _take(connection, upload)
        connection.close(FAILED if upload.failed else NORMAL)
    except SocketClosedError as closed:
        trouble = "" if upload.idle else str(closed)
    except UploadProtocolError as error:
        trouble = f"the browser does not keep to the protocol: {error}"
        connection.close(FAILED)
    except (NotNow, Problem) as error:
        log.warning("transfer: %s", one_line(str(error)))
        trouble = error.why if isinstance(error, Problem) else "The cluster did not answer."
        connection.close(FAILED)
    finally:
        upload.close()
        _conclude(unit, transfer, upload, trouble)


def _take(connection: WebSocket, upload: FolderUpload) -> None:
    """Takes messages until the browser closes the connection, or nothing more can come.

    :raises SocketClosedError: the browser has closed it
    """
    messages = UploadMessages()
    last = time.monotonic()
    for piece in connection.pieces():
        now = time.monotonic()
        if piece is None:
            over = upload.failed and upload.idle and now - last > LINGER_SECONDS
            if over or upload.full or now - last > IDLE_SECONDS:
                return
            continue
        last = now
        for message in messages.feed(piece.data, last=piece.last):
            answer = upload.take(message)
            if answer:
                connection.send(answer)


def _conclude(unit: Unit, transfer: Transfer, upload: FolderUpload, trouble: str) -> None:
    missing = upload.listed - upload.completed
    outcome = TransferOutcome.FAILED if missing or trouble else TransferOutcome.DONE
    unit.provider.transfers.end(transfer, outcome, unit.provider.now(), upload.done)
    what = f"{upload.completed} of {upload.listed} files"
    reasons = "; ".join(upload.failures) or trouble
    unit.record(transfer, f"{what} ({one_line(reasons, 300)})" if reasons else what, upload.done)
    if upload.failures or (trouble and missing):
        unit.report_failure(transfer, f"{what} were uploaded. {reasons}")
