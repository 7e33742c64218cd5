"""What is started in a ``with`` statement, and ends with it, also where only a part could be started."""

from contextlib import ExitStack
from functools import cached_property
from typing import Self


class Started:
    """The parts are put on ``self._stack`` as they are started."""

    @cached_property
    def _stack(self) -> ExitStack:
        return ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        raise NotImplementedError
