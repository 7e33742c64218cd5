"""The process of the listener: ``ucloud-slurm listener`` reads the configuration and then executes this module."""

import logging
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.listener.connection import ChannelUnavailableError
from ucloud_slurm.listener.listening import Listener, WorkerPasses, renew_token
from ucloud_slurm.listener.settings import Settings
from ucloud_slurm.store.breaker import CircuitBreaker
from ucloud_slurm.store.caches import MemoryInStore
from ucloud_slurm.store.outbox import ucloud_was_away
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.wallets import Wallets
from ucloud_slurm.system import journal
from ucloud_slurm.system.filelock import LISTENER, exclusive_lock
from ucloud_slurm.ucloud.pauses import ACCESS, Pauses

log = logging.getLogger(__name__)

WAIT_SECONDS = "60"  # for the end of a pass that runs already
HANDOVER_SECONDS = 3.0  # for the end of an earlier listener
EX_TEMPFAIL = 75
EX_CONFIG = 78


def main(arguments: list[str]) -> NoReturn:
    """Receives until a signal ends it.

    :param arguments: of the command line
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    journal.begin(journal=not sys.stderr.isatty())
    settings = Settings.read(arguments)
    journal.write_as(settings.journal)
    try:
        store = Store(Path(settings.database), fenced=settings.standby)
    except Misconfigured as error:
        log.error("%s", " ".join(error.sentences))
        sys.exit(EX_CONFIG)
    memory = MemoryInStore(store)

    def token() -> str:
        renew_token(settings.verb("listener", "--renew"))
        found = memory.load(ACCESS)
        if found is None:
            raise ChannelUnavailableError("There is no access token for UCloud's channel")
        return found

    with exclusive_lock(store.path, LISTENER, HANDOVER_SECONDS) as mine:
        if not mine:
            log.error("another listener runs with this database; this one ends")
            sys.exit(EX_TEMPFAIL)
        passes = WorkerPasses(settings.verb("worker", "--wait", WAIT_SECONDS))

        def reopened(away_at: float) -> None:
            ucloud_was_away(store, away_at, time.time())

        breaker, pauses = CircuitBreaker(store), Pauses(memory, time.time)
        Listener(
            settings,
            Wallets(store),
            breaker,
            pauses,
            token=token,
            changed=passes.request,
            reopened=reopened,
            allowed=store.refuse_elsewhere,
        ).run()


def _end(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


main(sys.argv[1:])
