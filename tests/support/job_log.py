"""A job over the model of Slurm, and the files of its log."""

from pathlib import Path
from typing import Any, Self

from tests.conftest import World


class LoggedJob:
    """A job in the queue. Its program is the test, which writes the log."""

    def __init__(self, world: World, **more: Any) -> None:
        """A researcher starts it. See :meth:`World.submit`."""
        self.world = world
        self.id = world.submit(**more)
        self.folder = Path(world.provider.job_paths(world.row(self.id)).folder)

    def start(self) -> Self:
        """Slurm starts it, and UCloud hears of that."""
        self.world.model.begin_run(self.world.slurm(self.id))
        self.world.work(1)
        return self

    def write(self, text: str, stream: str = "stdout", rank: int = 0, encoding: str = "utf-8") -> None:
        """Appends to a file of the log."""
        with (self.folder / f"{stream}-{rank}.log").open("a", encoding=encoding) as file:
            file.write(text)

    def end(self) -> None:
        """It ends, and UCloud hears of that."""
        self.world.model.end(self.world.slurm(self.id))
        self.world.work(1)
