"""P10: what is listed for people has an end, and says so."""

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from tests.conftest import World
from ucloud_slurm.cli.main import main

Ask = Callable[..., Result]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a verb over the world's database."""
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: world.provider.config)

    def ask_(*words: str) -> Result:
        return CliRunner().invoke(main, words)

    return ask_


def test_the_newest_jobs_are_listed_and_that_there_are_more_is_said(world: World, ask: Ask) -> None:
    jobs = [world.submit() for _ in range(3)]
    for words in (("jobs",), ("jobs", "--all")):
        some = ask(*words, "--most", "2")
        assert "there are more than these 2" in some.stderr
        assert [job for job in jobs if job in some.stdout] == jobs[1:]
        every = ask(*words, "--most", "3")
        assert every.stderr == ""
        assert all(job in every.stdout for job in jobs)


def test_the_messages_that_have_waited_longest_are_listed(world: World, ask: Ask) -> None:
    jobs = [world.submit() for _ in range(3)]
    for job in jobs:
        world.model.begin_run(world.slurm(job))
    world.core.faults.outage()
    world.work(1)
    some = ask("outbox", "--most", "2")
    assert [job for job in jobs if job in some.stdout] == jobs[:2]
    newest = ask("outbox", "--all", "--most", "2")
    assert [job for job in jobs if job in newest.stdout] == jobs[1:]
    assert "there are more than these 2" in newest.stderr
