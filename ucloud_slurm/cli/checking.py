"""``check``: how its parts are run, in an order and within a time."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread

from ucloud_slurm.cli.output import Finding, Line
from ucloud_slurm.config import Config
from ucloud_slurm.errors import Misconfigured, NotNow, Problem, place
from ucloud_slurm.ucloud.core import Core

CHECK_SECONDS = 60.0  # that all of it may take
QUESTION_SECONDS = 10.0  # that Slurm or UCloud has for one answer


class Budget:
    """The time that is left, and what is shown of the progress."""

    def __init__(self, seconds: float = CHECK_SECONDS, show: Callable[[str], None] = lambda _text: None) -> None:
        """Starts the clock.

        :param show: shows what is being done
        """
        self._until = time.monotonic() + seconds
        self.show = show

    @property
    def remains(self) -> float:
        """Seconds until the end, 0 after it."""
        return max(0.0, self._until - time.monotonic())

    def left(self, most: float = QUESTION_SECONDS) -> float:
        """Seconds that a question may take.

        :raises NotNow: there is no time left
        """
        if not self.remains:
            raise NotNow("there was no time left; the rest of it was not checked")
        return min(most, self.remains)


def open_core(config: Config, seconds: float) -> Core:
    """UCloud, asked once and with a limit.

    :raises Misconfigured: there is no refresh token
    """
    config.ucloud.refresh_token()
    return Core(
        config.ucloud.url,
        config.ucloud.refresh_token,
        now=time.time,
        timeout=min(config.ucloud.timeout, seconds),
        tries=1,
        ca_file=config.ucloud.ca_file,
        proxy=config.ucloud.proxy_url(),
        where=config.ucloud.token_place,
    )


Check = tuple[str, Callable[[], Iterable[Line]]]


def findings(checks: Sequence[Check], budget: Budget) -> Iterator[Finding]:
    """Runs the checks one after another, in a thread that is left behind when something in it hangs.

    A name service or a network file system can hang in a way that no time limit of a call reaches.
    """
    found: SimpleQueue[str | Finding | _End] = SimpleQueue()

    def work() -> None:
        with _End(found.put):
            for what, check in checks:
                found.put(what)
                for finding in _run(what, check):
                    found.put(finding)

    Thread(target=work, daemon=True).start()
    what = ""
    while True:
        try:
            item = found.get(timeout=budget.remains + 1)
        except Empty:
            yield Finding(what, "failed", f"no answer within {CHECK_SECONDS:.0f} s in all; the rest was not checked")
            return
        match item:
            case _End():
                if item.text:
                    yield Finding(what, "failed", item.text)
                return
            case str():
                what = item
                budget.show(what)
            case _:
                yield item


class _End:
    """The end of the checks, also by a mistake of this program, which is reported where the findings are read."""

    def __init__(self, report: Callable[["_End"], None]) -> None:
        self._report = report
        self.text = ""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is not None:
            self.text = f"unexpected {type(error).__name__} at {place(error)}; the rest was not checked"
        self._report(self)
        return True


def _run(what: str, check: Callable[[], Iterable[Line]]) -> Iterator[Finding]:
    try:
        for level, text in check():
            yield Finding(what, level, text)
    except Misconfigured as error:
        yield from (Finding(what, "failed", sentence) for sentence in error.sentences)
    except (NotNow, Problem) as error:
        yield Finding(what, "failed", str(error))
