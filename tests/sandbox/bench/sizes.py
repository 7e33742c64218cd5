"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of repetitions and of jobs.

    :ivar creates: single creates, one after the other
    :ivar block: measurements of one side before the other follows
    :ivar rounds: repetitions of what takes long
    :ivar bulks: jobs in a bulk
    :ivar waiting: unchanged jobs of a pass
    :ivar changes: changes of jobs, one after the other
    :ivar beside: jobs beside which others are terminated
    :ivar messages: in the outbox, for each of ``outbox_jobs``
    :ivar finished: jobs in the file that a start-up finds
    :ivar download: bytes of a file that is downloaded
    :ivar chunks: of a file that is uploaded, each of 16 000 000 bytes
    """

    creates: int = 200
    block: int = 10
    rounds: int = 3
    at_once: int = 25
    bulks: tuple[int, ...] = (100, 1000)
    waiting: tuple[int, ...] = (10, 1_000, 10_000, 20_000)
    passes: int = 5
    changes: int = 60
    beside: tuple[int, ...] = (20, 3000)
    outbox_jobs: int = 1000
    messages: int = 100
    finished: int = 1_000_000
    download: int = 4 * 2**30
    chunks: int = 64


WHOLE = Sizes()
QUICK = Sizes(
    creates=20,
    rounds=1,
    at_once=3,
    bulks=(20,),
    waiting=(10, 100),
    passes=2,
    changes=20,
    beside=(20,),
    outbox_jobs=50,
    messages=10,
    finished=2000,
    download=2**30,
    chunks=8,
)
