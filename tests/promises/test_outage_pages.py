"""The pages about outages are true: their stories happen here, and what their commands print is what they show."""

import gc
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from click.testing import CliRunner

from tests.conftest import Open, World
from ucloud_slurm.cli.main import main
from ucloud_slurm.store.breaker import CHANNEL
from ucloud_slurm.system.filelock import LISTENER, exclusive_lock
from ucloud_slurm.system.journal import OneLine
from ucloud_slurm.worker.run import Result

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
CURL = "curl --unix-socket /run/ucloud-slurm/web.sock http://localhost/"
pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")


class Journal(logging.Handler):
    """The journal of the worker."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(OneLine(priorities=False))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@dataclass
class Terminal:
    """An administrator's terminal on the host of the provider."""

    world: World
    journal: Journal = field(default_factory=Journal)

    def run(self, command: str) -> str:
        """What a command of a page prints."""
        command, _, pattern = command.partition(" | grep ")
        name, *words = command.split()
        if command.startswith(CURL):
            printed = requests.get(f"{self.world.url}/{command.removeprefix(CURL)}", timeout=10).text
        elif name == "ucloud-slurm":
            printed = CliRunner().invoke(main, words, catch_exceptions=False).output
        elif name == "journalctl":
            number = int(words[words.index("-n") + 1])
            printed = "\n".join(self.journal.lines[-number:])
        else:
            raise AssertionError(f"nobody knows how to run {name}")
        config = self.world.provider.config
        printed = printed.replace(str(config.ucloud.refresh_token_file), "/etc/ucloud-slurm/refresh-token")
        printed = aligned(printed.replace(config.ucloud.url, "https://cloud.sdu.dk"), self.world.model.user)
        return "\n".join(line.rstrip() for line in printed.splitlines() if re.search(pattern.strip("'"), line))


def aligned(printed: str, user: str) -> str:
    """A table with the account of a site in the place of the one that runs the tests."""
    if "  USER " not in printed:
        return printed
    rows = [["ucloud-slurm" if cell == user else cell for cell in re.split(" {2,}", line)] for line in printed.splitlines()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


@pytest.fixture
def terminal(world: World, open_provider: Open, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """With a listener that runs, and the commands over the model of Slurm."""
    terminal = Terminal(world)
    logger = logging.getLogger("ucloud_slurm")
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: world.provider.config)
    monkeypatch.setattr("ucloud_slurm.cli.context.Provider", SimpleNamespace(open=lambda _config: open_provider()))
    monkeypatch.setattr("ucloud_slurm.cli.check.read", lambda _path: world.provider.config)
    for part in ("accounts", "web", "slurm", "software"):  # of this host
        monkeypatch.setattr(f"ucloud_slurm.cli.check.{part}", lambda *_: [])
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.addHandler(terminal.journal)
    with exclusive_lock(world.provider.store.path, LISTENER):
        yield terminal
    logger.removeHandler(terminal.journal)
    gc.enable()


def shown(page: str) -> list[list[tuple[str, str]]]:
    """The commands of each block of a page, with what they print."""
    blocks = []
    text = (HOWTO / page).read_text()
    for block in re.findall(r"^\.\. code-block:: console\n\n((?:   .*\n|\n)+)", text, re.MULTILINE):
        lines = [line.removeprefix("   ") for line in block.rstrip().splitlines()]
        commands: list[tuple[str, list[str]]] = []
        for line in lines:
            if line.startswith("$ "):
                commands.append((line.removeprefix("$ "), []))
            else:
                commands[-1][1].append(line)
        blocks.append([(command, "\n".join(printed)) for command, printed in commands])
    return blocks


def tell(terminal: Terminal, page: str, events: list[Callable[[], object]]) -> None:
    """Lets the events of a page happen, one before each of its blocks, and compares what the commands print."""
    blocks = shown(page)
    assert len(blocks) == len(events)
    for event, block in zip(events, blocks, strict=True):
        event()
        for command, printed in block:
            assert terminal.run(command) == printed, f"{page}: {command}"


def passes(world: World, minutes: int) -> None:
    for _ in range(minutes):
        world.work(60)


def begun(world: World) -> str:
    """A job that runs, of which UCloud knows."""
    job_id = world.submit(name="simulation")
    world.model.begin_run(world.slurm(job_id))
    passes(world, 2)
    assert world.told(job_id) == ["RUNNING"]
    return job_id


def test_the_page_about_an_outage_of_ucloud(terminal: Terminal) -> None:
    world = terminal.world
    first, second = begun(world), world.submit(name="analysis")
    path = world.provider.config.ucloud.refresh_token_file
    right = path.read_text()

    def away() -> None:
        world.core.faults.outage(True)
        world.model.begin_run(world.slurm(second))
        passes(world, 30)
        world.model.end(world.slurm(first))
        passes(world, 90)
        world.provider.breaker.record_failure(CHANNEL, "UCloud answered 503 instead of opening the channel", world.clock(), 0.0)

    def back() -> None:
        world.core.faults.outage(False)
        world.provider.breaker.record_success(CHANNEL, world.clock())
        assert world.work(15) is Result.DONE
        assert (world.told(first), world.told(second)) == (["RUNNING", "SUCCESS"], ["RUNNING"])
        world.work(60)

    def busy() -> None:
        world.clock.advance(60)
        world.core.faults.answer("accounting.v2.reportUsage", 429, retry_after="120")
        assert world.work() is Result.NOT_ALL
        assert world.work(15) is Result.NOT_ALL

    def refused() -> None:
        passes(world, 3)
        world.core.tokens.revoke_access()
        path.write_text("another")
        passes(world, 2)
        assert world.work(15) is Result.NOT_ALL

    def corrected() -> None:
        path.write_text(right)
        assert world.work(15) is Result.DONE

    tell(terminal, "ucloud-was-down.rst", [away, back, busy, refused, corrected])


def test_the_page_about_an_outage_of_slurm(terminal: Terminal) -> None:
    world = terminal.world
    first = begun(world)
    accepted: list[str] = []

    def away() -> None:
        world.model.controller = False
        world.work(15)
        world.clock.advance(45)
        accepted.append(
            world.core.submit(
                application=("sleeper", "1.0.0"),
                product="example-compute-1",
                name="analysis",
                parameters={"seconds": {"type": "integer", "value": 60}},
                minutes=30,
            )
        )
        passes(world, 20)

    def back() -> None:
        world.model.end(world.slurm(first))
        world.model.controller = True
        passes(world, 2)
        assert world.told(first) == ["RUNNING", "SUCCESS"]
        assert [len(world.model.of(job_id)) for job_id in (first, *accepted)] == [1, 1]

    def accounting_away() -> None:
        world.model.begin_run(world.slurm(accepted[0]))
        passes(world, 2)
        world.model.end(world.slurm(accepted[0]))
        world.model.accounting = False
        passes(world, 5)

    def accounting_back() -> None:
        world.model.accounting = True
        passes(world, 2)
        assert world.told(accepted[0]) == ["RUNNING", "SUCCESS"]

    tell(terminal, "slurm-was-down.rst", [away, back, accounting_away, accounting_back])
