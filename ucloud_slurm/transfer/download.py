"""Downloads: one link, one file, once; and parts of it again while the link lives (Range)."""

import os
import time
from contextlib import suppress
from urllib.parse import quote

from ucloud_slurm.errors import Conflict, NotFound, StorageError
from ucloud_slurm.store.transfers import PROGRESS_SECONDS, Transfer, TransferKind, TransferOutcome
from ucloud_slurm.transfer.exchange import ClientGoneError, Exchange
from ucloud_slurm.transfer.ranges import Span, entity_tag, wanted
from ucloud_slurm.transfer.unit import GoneError, Unit
from ucloud_slurm.users.files import OpenedFile

OK, PARTIAL = 200, 206
USED = "This link has been used: each download has a link of its own. Please click on Download at UCloud again."
OLD = "This link is not valid any more. Please click on Download at UCloud again."
CHANGED = "The file has changed since this link was made. Please click on Download at UCloud again."


def download(unit: Unit, exchange: Exchange) -> list[bytes]:
    """Answers GET and HEAD of a link.

    :raises Problem: the link does not work, or the file cannot be read
    """
    transfer = unit.provider.transfers.find(exchange.token)
    if transfer is None or transfer.kind is not TransferKind.DOWNLOAD:
        raise NotFound("There is no such link. Please click on Download at UCloud again.")
    if transfer.expires_at < unit.provider.now():
        raise GoneError(OLD)
    asks_for_part = exchange.header("Range") is not None
    if transfer.ended_at is not None or (transfer.used_at is not None and not asks_for_part):
        raise GoneError(USED)
    with unit.admission.admit(transfer.username):
        opened = unit.files(transfer).read(unit.checked(transfer))
        try:
            _send(unit, exchange, transfer, opened)
        finally:
            os.close(opened.descriptor)
    return []


def _send(unit: Unit, exchange: Exchange, transfer: Transfer, opened: OpenedFile) -> None:
    if (opened.size, opened.modified_ns) != (transfer.size, transfer.modified_at):
        raise Conflict(CHANGED)
    tag = entity_tag(opened.size, opened.modified_ns)
    span = wanted(exchange.header("Range"), exchange.header("If-Range"), opened.size, tag)
    is_head = exchange.verb == "HEAD"
    if not is_head and not unit.provider.transfers.use(transfer, unit.provider.now(), _until(unit)) and span.whole:
        raise GoneError(USED)
    headers = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Length", str(span.length)),
        ("Content-Disposition", disposition(transfer.parts[-1])),
        ("Accept-Ranges", "bytes"),
        ("ETag", tag),
    ]
    if not span.whole:
        headers.append(("Content-Range", span.content_range(opened.size)))
    exchange.head(OK if span.whole else PARTIAL, headers)
    if not is_head:
        _Progress(unit, transfer, span).send(exchange, opened)


class _Progress:
    """Sends, and keeps the link alive meanwhile: what breaks off can be continued soon after."""

    def __init__(self, unit: Unit, transfer: Transfer, span: Span) -> None:
        self._unit = unit
        self._transfer = transfer
        self._span = span
        self._noted_at = time.monotonic()

    def send(self, exchange: Exchange, opened: OpenedFile) -> None:
        sent, how = 0, "ended by the client"
        self._unit.provider.store.close()  # a file may take hours, and a connection a quarter of a MiB
        try:
            sent = exchange.send_file(opened.descriptor, self._span.offset, self._span.length, self._note)
            how = "done" if sent == self._span.length else "broken off: the file has become shorter"
        except ClientGoneError:
            sent = self._sent
        except OSError as error:
            sent, how = self._sent, f"broken off: the file cannot be read ({error.strerror})"
        with suppress(StorageError):  # the bytes are out
            self._write(sent)
            if how == "done" and self._span.offset + self._span.length == opened.size:
                self._unit.provider.transfers.end(
                    self._transfer, TransferOutcome.DONE, self._unit.provider.now(), self._span.offset + sent
                )
        self._unit.record(self._transfer, how, sent)

    _sent = 0

    def _note(self, sent: int) -> None:
        self._sent = sent
        if time.monotonic() - self._noted_at >= PROGRESS_SECONDS:
            self._noted_at = time.monotonic()
            with suppress(StorageError):
                self._write(sent)

    def _write(self, sent: int) -> None:
        provider = self._unit.provider
        provider.transfers.progress(self._transfer, self._span.offset + sent, _until(self._unit))
        provider.store.close()


def _until(unit: Unit) -> float:
    """Until when a link that is used now can be used for parts of its file."""
    return unit.provider.now() + max(unit.provider.config.transfers.link, 2 * PROGRESS_SECONDS)


def disposition(name: str) -> str:
    """The value of Content-Disposition: the browser saves the file, and shows nothing (RFC 6266)."""
    plain = "".join(
        character if character.isascii() and character.isprintable() and character not in '"\\%/' else "_" for character in name
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
