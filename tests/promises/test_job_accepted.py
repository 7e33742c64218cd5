"""The site's own program refuses or changes new jobs: within bounds, within UCloud's 5 seconds, once for each job."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.support.factories import job_data
from tests.support.hook_site import HookSite
from tests.support.model import Model
from ucloud_slurm.slurm.identity import BuiltJob
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.system import ipc

CHANGES = (
    "#!/usr/bin/env python3\nimport json, sys\nevent = json.load(sys.stdin)\n"
    "print(json.dumps(event), file=open('{log}', 'a'))\n"
    "print(json.dumps({'jobs': {each['job']: {'account': 'physics', 'qos': 'long', 'partition': 'other'} "
    "for each in event['jobs']}}))\n"
)
REFUSES = '#!/bin/sh\necho \'{"refuse": "Your group has no contract. Please write to hpc@example.org.", "status": 402}\'\n'
HANGS = "#!/bin/sh\nsleep 1000\n"
Join = Callable[..., World]


@pytest.fixture
def hooks(tmp_path: Path) -> HookSite:
    return HookSite(tmp_path)


@pytest.fixture
def join(
    hooks: HookSite,
    core: SimulatedCore,
    open_provider: Open,
    serve: Serve,
    model: Model,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Join:
    """A site whose program of job-accepted is that text."""
    monkeypatch.setattr("ucloud_slurm.config.hooks.LONGEST_DECISION_SECONDS", 60.0)

    def join_(text: str, **settings: Any) -> World:
        # Long enough for a busy host; a program that hangs has less.
        table = hooks.hook("job-accepted", text=text, **({"timeout": "60s"} | settings))
        provider = open_provider(hooks=[table])
        return World(core, provider, model, clock, serve(provider))

    return join_


def create(world: World, *ids: str) -> tuple[int, Any]:
    status, body = world.core.call("POST", "/ucloud/example/jobs", {"items": [job_data(id_) for id_ in ids]})
    return int(status), body


def undecided(world: World) -> list[tuple[int, str | None]]:
    """How often there was no decision, and the last reason."""
    return [(event.attempts, event.failure) for event in world.provider.hook_events.listed(10)]


def test_a_program_changes_account_qos_and_partition_of_a_job(hooks: HookSite, join: Join) -> None:
    world = join(CHANGES)
    with hooks.serving(world.provider.config):
        assert create(world, "7")[0] == 200
    (asked,) = hooks.got()
    (facts,) = asked["jobs"]
    guide = (Path(__file__).parents[2] / "docs/howto/hooks.rst").read_text()
    (block,) = re.findall(r"   (\{.*\"event\": \"job-accepted\"(?:.*\n)+?.*\}\]\})\n", guide)
    assert (asked.keys(), facts.keys()) == (json.loads(block).keys(), json.loads(block)["jobs"][0].keys())
    assert (asked["event"], asked["provider"]) == ("job-accepted", "example")
    assert facts.items() >= {"job": "7", "owner": "user", "project": None, "nodes": 1, "minutes": 60, "qos": None}.items()
    submission = world.slurm("7").submission
    assert (submission.account, submission.qos, submission.partition) == ("physics", "long", "other")
    built = BuiltJob.read(world.row("7").built)
    assert built is not None
    assert (built.account, built.partition) == ("physics", "other"), "the job is known again by what was asked of Slurm"
    assert undecided(world) == []


def test_what_was_decided_holds_for_a_job_that_the_worker_submits_and_is_not_asked_again(hooks: HookSite, join: Join) -> None:
    world = join(CHANGES)
    world.provider.breaker.record_failure(SLURM, "away", world.clock())
    with hooks.serving(world.provider.config):
        assert create(world, "7")[0] == 200
        assert world.model.jobs == []
        assert create(world, "7")[0] == 200, "UCloud repeats a create whose answer it did not get"
        world.work(60)
    submission = world.slurm("7").submission
    assert (submission.account, submission.qos, submission.partition) == ("physics", "long", "other")
    assert len(hooks.got()) == 1


def test_a_bulk_is_asked_about_once(hooks: HookSite, join: Join) -> None:
    world = join(CHANGES)
    with hooks.serving(world.provider.config):
        assert create(world, *map(str, range(8)))[0] == 200
    (asked,) = hooks.got()
    assert [each["job"] for each in asked["jobs"]] == [str(number) for number in range(8)]
    world.work(60)
    assert {job.submission.qos for job in world.model.jobs} == {"long"}


def test_a_refusal_is_the_answer_in_the_sites_words_and_leaves_no_job(hooks: HookSite, join: Join) -> None:
    world = join(REFUSES)
    with hooks.serving(world.provider.config):
        status, body = create(world, "7", "8")
    assert (status, body["why"]) == (402, "Your group has no contract. Please write to hpc@example.org.")
    assert world.provider.jobs.get("7") is None
    assert world.model.jobs == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HANGS, "0.2 s"),
        ("#!/bin/sh\nexit 1\n", "ended with exit status 1"),
        ("#!/bin/sh\necho yes\n", "printed no JSON: yes"),
        ("#!/bin/sh\nhead -c 1000000 /dev/zero\n", "printed more than 64 KiB"),
        ('#!/bin/sh\necho \'{"jobs": {"7": {"account": "--uid=0"}}}\'\n', "account: should be a plain Slurm name"),
    ],
    ids=["hangs", "fails", "garbage", "megabytes", "option"],
)
def test_without_a_decision_a_job_is_accepted_as_it_is_or_sent_back_as_the_site_wants(
    hooks: HookSite, join: Join, text: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"timeout": "0.2s"} if text == HANGS else {}
    world = join(text, **settings)
    with hooks.serving(world.provider.config):
        assert create(world, "7")[0] == 200
    assert world.slurm("7").submission.account is None
    assert world.row("7").decision is None
    ((number, reason),) = undecided(world)
    assert number == 1
    assert why in str(reason)
    assert why in caplog.text
    world = join(text, **settings, on_failure="refuse")
    with hooks.serving(world.provider.config):
        status, body = create(world, "8")
    assert status == 500
    assert body["why"] == "The provider cannot decide about new jobs at the moment. Please try again in a few minutes."
    assert world.provider.jobs.get("8") is None
    assert [number for number, _ in undecided(world)] == [2], "one row counts them all"


def test_a_daemon_that_is_away_is_not_waited_for(hooks: HookSite, join: Join) -> None:
    world = join(REFUSES, on_failure="refuse")
    assert create(world, "7")[0] == 500
    assert f"nobody answers at {hooks.socket}" in str(undecided(world)[0][1])


def test_a_daemon_that_stands_still_is_left_at_the_limit(hooks: HookSite, join: Join) -> None:
    world = join(REFUSES, timeout="0.2s")
    began = time.monotonic()
    with ipc.listener(hooks.socket, 0o600):  # it accepts nothing
        assert create(world, "7")[0] == 200
    assert time.monotonic() - began < 15, "not as long as the site would wait for Slurm"
    assert "gave no answer in 0.2 s" in str(undecided(world)[0][1])
