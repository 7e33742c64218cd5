"""What the file unit does by itself: empty files, parts that nobody continues, descriptors that nobody uses."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ucloud_slurm.errors import NotFound, NotNow, Problem, one_line, place
from ucloud_slurm.store.transfers import LATEST_SECONDS, OPEN, Transfer, TransferKind, TransferOutcome
from ucloud_slurm.system.bulkhead import StuckError
from ucloud_slurm.transfer.chunked import finish_empty
from ucloud_slurm.transfer.unit import Unit
from ucloud_slurm.users.files import Place

PAUSE_SECONDS = 15.0
AT_A_TIME = OPEN  # all: some of one user, which nothing can be done about, hold up nobody else

log = logging.getLogger(__name__)


class Upkeep:
    """One round does what is due; :meth:`begin` does one after the other in a thread."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._ended = threading.Event()
        self._under_way: set[str] = set()  # tokens
        self._changed = threading.Condition()

    def begin(self) -> None:
        """Starts the thread."""
        threading.Thread(target=self._run, name="upkeep", daemon=True).start()

    def end(self) -> None:
        """Lets it end."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            try:
                self.round()
            except Exception as error:  # the next round may succeed
                log.error("transfer: the upkeep failed at %s", place(error), exc_info=True)

    def round(self) -> None:
        """Begins what is due, in threads of which no user has more than a share."""
        unit, transfers = self._unit, self._unit.provider.transfers
        now = unit.provider.now()
        unit.parts.close_silent()
        for transfer in transfers.silent(now, AT_A_TIME):
            self._beside(transfer, partial(finish_empty, unit, transfer))
        for transfer in transfers.expired(now, AT_A_TIME):
            if transfer.part is None or transfer.ended_at is not None:
                transfers.end(transfer, TransferOutcome.EXPIRED, now, transfer.done)
            else:
                self._beside(transfer, partial(self._drop, transfer))
        transfers.delete_old(now)

    def wait(self, seconds: float) -> bool:
        """Waits until what was begun has ended. False where it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way, seconds)

    def _beside(self, transfer: Transfer, work: Callable[[], None]) -> None:
        with self._changed:
            if transfer.token in self._under_way:
                return
            self._under_way.add(transfer.token)
        try:
            self._unit.beside.submit(transfer.local_user, partial(self._careful, transfer, work))
        except StuckError:
            self._left(transfer)

    def _careful(self, transfer: Transfer, work: Callable[[], None]) -> None:
        try:
            work()
        except (Problem, NotNow) as error:
            self._unit.record(transfer, f"failed ({one_line(str(error), 200)})", transfer.done)
        finally:
            self._left(transfer)

    def _left(self, transfer: Transfer) -> None:
        with self._changed:
            self._under_way.discard(transfer.token)
            self._changed.notify_all()

    def _drop(self, transfer: Transfer) -> None:
        """Deletes the part of an upload that cannot be continued any more."""
        unit, now = self._unit, self._unit.provider.now()
        try:
            with suppress(NotFound):
                unit.files(transfer).drop(Place(transfer.root, transfer.parts), str(transfer.part))
        except (Problem, NotNow):
            if now - transfer.expires_at < LATEST_SECONDS:
                raise
        if transfer.kind is TransferKind.PART:
            unit.provider.transfers.forget_part(transfer)
            return
        unit.provider.transfers.end(transfer, TransferOutcome.EXPIRED, now, transfer.done)
        unit.record(transfer, "given up", transfer.done)
