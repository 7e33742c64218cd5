"""`maintenance` as an administrator types it: what is wrong is said in one sentence, and nothing is changed then."""

import json
import re
import shlex
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.conftest import START, Clock, Open, World
from tests.support.pages import HOWTO, steps
from ucloud_slurm.cli.context import explained
from ucloud_slurm.cli.main import main
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.system.accounts import own_account

Type = Callable[..., Result]


@pytest.fixture
def typed(world: World, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a line of `ucloud-slurm maintenance`, by the clock of the test."""

    @contextmanager
    def opened(_path: Path | None) -> Iterator[Provider]:
        with explained():
            yield world.provider

    monkeypatch.setattr("ucloud_slurm.cli.maintenance.opened", opened)
    monkeypatch.setattr("ucloud_slurm.system.origin.LOGIN_UID", Path("/nonexistent"))
    monkeypatch.setenv("SUDO_USER", "grace")
    return lambda *words: CliRunner().invoke(main, ["maintenance", *words])


def windows(typed: Type) -> list[dict[str, Any]]:
    done = typed("--json")
    assert done.exit_code == 0
    found: list[dict[str, Any]] = json.loads(done.output)["windows"]
    return found


def refusal(done: Result) -> str:
    assert (done.exit_code, done.stdout) == (1, "")
    return done.stderr


def test_what_is_switched_on_is_shown_with_by_whom_since_when_and_until_when(typed: Type) -> None:
    done = typed("on", "Slurm is upgraded.", "--until", "2h")
    assert done.exit_code == 0
    assert windows(typed) == [
        {
            "category": "",
            "product": "",
            "message": "Slurm is upgraded.",
            "until": START + 7200,
            "begun_at": START,
            "begun_by": "grace",
            "state": "on",
        }
    ]
    lines = typed().output.splitlines()
    assert lines[0].split() == ["MACHINE", "STATE", "SINCE", "UNTIL", "BY"]
    assert lines[1].split()[:2] == ["all", "on"]
    assert lines[2] == "all: Slurm is upgraded."
    assert done.output.splitlines() == lines


def test_who_did_it_stays_in_the_database(typed: Type, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    typed("on", "First.")
    world.clock.advance(5)
    typed("on", "Second.")
    world.clock.advance(5)
    monkeypatch.delenv("SUDO_USER")
    typed("off")
    rows = world.provider.store.tuples("select message, begun_by, ended_at, ended_by from maintenance order by id")
    assert rows == [("First.", "grace", START + 5, "grace"), ("Second.", "grace", START + 10, own_account())]
    assert [(act.who, act.kind, act.what) for act in world.provider.acts.listed(0.0, 10)] == [
        ("grace", "maintenance", "maintenance of all: First."),
        ("grace", "maintenance", "maintenance of all: Second."),
        (own_account(), "maintenance", "end of the maintenance of all"),
    ]
    typed("off")
    assert len(world.provider.acts.listed(0.0, 10)) == 3, "there was nothing to end"


def test_what_is_typed_again_changes_nothing(typed: Type, world: World) -> None:
    for _ in range(2):
        typed("on", "Disks.", "--product", "example-compute-1")
        world.clock.advance(5)
    assert [each["begun_at"] for each in windows(typed)] == [START]
    assert len(world.provider.acts.listed(0.0, 10)) == 1


def test_machines_are_named_by_id_or_with_their_category_and_each_once(typed: Type) -> None:
    names = ("example-compute-1", "example-compute/example-compute-1", "example-compute/example-compute-4")
    assert typed("on", "New disks.", *(word for name in names for word in ("--product", name))).exit_code == 0
    assert [each["product"] for each in windows(typed)] == ["example-compute-1", "example-compute-4"]
    done = typed("off", "--product", "example-compute-1")
    assert done.output == "example-compute/example-compute-1: accepts new jobs again.\n"
    assert [each["product"] for each in windows(typed)] == ["example-compute-4"]


def test_a_name_that_is_of_no_product_or_of_several_is_refused_with_those_that_there_are(
    typed: Type, world: World, open_provider: Open
) -> None:
    assert "product: moon is not a configured product; there are: example-compute/example-compute-1, " in refusal(
        typed("on", "New disks.", "--product", "moon")
    )
    world.provider = open_provider(products=[{"id": "a", "category": each, "partition": "cpu"} for each in ("x", "y")])
    assert "product: a is the id of several products; name one: x/a, y/a." in refusal(typed("on", "m", "--product", "a"))
    assert windows(typed) == []


@pytest.mark.parametrize(
    "message", ["", "  ", "a\nb", "a\x1b[31mb", "a\x00b", "a\u202eb", "\udcff", "x" * 201], ids=lambda text: repr(text[:6])
)
def test_a_message_is_one_printable_line(typed: Type, message: str) -> None:
    sentence = "ucloud-slurm: message: should be one line of 1 to 200 characters, without control characters.\n"
    assert refusal(typed("on", message)) == sentence
    assert windows(typed) == []


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        ("90m", 5400),
        ("7d", 7 * 86400),
        ("2026-11-19", 46_400),
        ("2026-11-19T00:00", 46_400),
        ("2026-11-19 01:00+01:00", 46_400),
    ],
)
def test_a_time_is_a_span_or_in_utc(typed: Type, until: str, seconds: int) -> None:
    assert typed("on", "Disks.", "--until", until).exit_code == 0
    assert windows(typed)[0]["until"] == START + seconds


@pytest.mark.parametrize("until", ["tomorrow", "2026-13-01", "0m", "2020-01-01", "9999d", "2028-01-01", "-1h", ""])
def test_a_time_that_is_none_or_not_in_the_next_year_is_refused(typed: Type, until: str) -> None:
    assert refusal(typed("on", "Disks.", "--until", until)).startswith("ucloud-slurm: until: ")
    assert windows(typed) == []


def test_what_is_over_by_itself_is_shown_as_over_until_it_is_switched_off(typed: Type, clock: Clock) -> None:
    typed("on", "Disks.", "--until", "1h")
    clock.advance(3600)
    assert [each["state"] for each in windows(typed)] == ["over"]
    assert typed().output.splitlines()[1].split()[:2] == ["all", "over"]
    assert typed("off").output == "all: accepts new jobs again.\n"
    assert typed().output == "No machine is under maintenance.\n"
    assert typed("off").output == "No machine was under maintenance.\n"


def test_one_machine_is_not_switched_off_while_all_are_under_maintenance(typed: Type) -> None:
    typed("on", "Disks.")
    assert "maintenance off` without --product" in refusal(typed("off", "--product", "example-compute-1"))
    assert typed("off").exit_code == 0
    assert typed("off", "--product", "example-compute-1").output.endswith("was not under maintenance.\n")


def test_how_far_it_is_drained_is_counted(typed: Type, world: World) -> None:
    world.model.begin_run(world.slurm(world.submit()))
    world.submit(product="example-compute-4")
    world.provider.breaker.open(SLURM, "away", world.clock())
    world.submit()
    typed("on", "Disks.", "--product", "example-compute-1")
    assert json.loads(typed("--json").output)["jobs"] == {"waiting": 1, "submitting": 0, "at_slurm": 1}
    assert "1 wait for its end, 0 are being submitted, 1 are at Slurm." in typed().output


def test_the_commands_of_the_guide_run_and_print_what_it_shows(typed: Type, world: World) -> None:
    world.model.begin_run(world.slurm(world.submit()))
    world.slurm(world.submit())
    world.provider.breaker.open(SLURM, "away", world.clock())
    world.submit()
    world.clock.time = START + 63
    ran = []
    for command, shown in steps("maintenance"):
        words = shlex.split(command.removeprefix("runuser -u ucloud-slurm -- /opt/ucloud-slurm/bin/ucloud-slurm maintenance"))
        done = typed(*words)
        assert (done.exit_code, done.output.splitlines()) == (0, shown), command
        ran.append(words[:1])
    assert ran == [["on"], [], ["off"], ["on"], ["off"]]


def test_the_limits_that_the_guide_shows_are_a_part_of_a_configuration(world: World, open_provider: Open) -> None:
    (shown,) = re.findall(r"code-block:: toml\n\n((?:   .*\n|\n)+)", (HOWTO / "maintenance.rst").read_text())
    config = open_provider(**tomllib.loads(textwrap.dedent(shown))).config
    assert (config.limits.jobs_per_person, config.limits.jobs_per_project) == (100, 500)
    assert [product.jobs_per_person for product in config.products] == [10]
    assert world.provider.config.limits.jobs_per_person is None
