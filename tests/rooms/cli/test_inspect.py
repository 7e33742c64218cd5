"""P10: what is listed for people has an end, and says so."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.sandbox.site import PRODUCTS
from tests.support.model import Model
from ucloud_slurm.cli.main import main

Ask = Callable[..., Result]


@pytest.fixture
def world(
    request: pytest.FixtureRequest, core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock
) -> World:
    """A provider whose product is charged by what the test says: nodes, or else cores."""
    product = {**PRODUCTS[0], "unit": "CREDITS_PER_MINUTE", "cpus": 4}
    provider = open_provider(products=[product | {"charge_by": getattr(request, "param", "node")}])
    return World(core, provider, model, clock, serve(provider))


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


@pytest.mark.parametrize("words", [("jobs",), ("jobs", "--all", "--json"), ("outbox",)])
def test_what_only_lists_needs_no_refresh_token(world: World, ask: Ask, words: tuple[str, ...]) -> None:
    world.submit()
    world.provider.config.ucloud.refresh_token_file.unlink()
    assert (ask(*words).exit_code, ask(*words).stderr) == (0, "")


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


def test_the_unix_user_of_a_job_is_its_user_and_the_older_name_of_the_key_stays(world: World, ask: Ask) -> None:
    world.submit()
    head, row = (line.split() for line in ask("jobs").stdout.splitlines())
    assert "ACCOUNT" not in head
    assert row[head.index("USER")] == world.model.user
    (job,) = json.loads(ask("jobs", "--json").stdout)
    assert job["user"] == job["account"] == world.model.user


@pytest.mark.parametrize(("world", "used"), [("node", "60 node-seconds"), ("core", "240 CPU-seconds")], indirect=["world"])
def test_the_bill_of_a_job_names_its_unit(world: World, ask: Ask, used: str) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(60)
    world.model.end(world.slurm(job_id))
    world.work(1)
    assert f"Used {used}, charged" in ask("show", job_id).stdout


def test_what_a_wallet_carries_is_shown_with_each_of_its_jobs(world: World, ask: Ask) -> None:
    jobs = [world.submit() for _ in range(2)]
    for job in jobs:
        world.model.begin_run(world.slurm(job))
        world.clock.advance(80)
        world.model.end(world.slurm(job))
        world.work(1)
    for job, charged in zip(jobs, (60, 120), strict=True):
        assert f"Used 80 node-seconds, charged {charged}, rest {80 - charged}" in ask("show", job).stdout
        assert "The rest of the wallet is now -20/60 of a unit." in ask("show", job).stdout
        assert json.loads(ask("show", job, "--json").stdout)["bill"]["wallet_rest"] == -20


def test_what_slurm_allocated_to_each_run_is_shown(world: World, ask: Ask) -> None:
    job = world.submit()
    world.model.change(world.slurm(job), partition="gpu", cpus=64, gpus=4)
    world.model.begin_run(world.slurm(job))
    world.clock.advance(80)
    world.model.end(world.slurm(job))
    world.work(1)
    head, line = (line.split() for line in ask("show", job).stdout.splitlines() if line.startswith(("SUBMITTED", "2026-")))
    assert head[-5:] == ["NODES", "CPUS", "PARTITION", "TRES", "STATE"]
    assert line[-5:] == ["1", "64", "gpu", "cpu=64,mem=6400M,node=1,billing=64,gres/gpu=4", "COMPLETED"]
