"""A program of the site maps users; its answer counts only if it is well-formed, in time and allowed."""

import logging
import pwd
import time
from pathlib import Path

import pytest

from tests.conftest import Clock, configuration
from tests.sandbox.core import SimulatedCore
from tests.sandbox.processes import wait_until
from tests.support.foreign import foreign
from ucloud_slurm.errors import Forbidden, Misconfigured
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.users.mapping import IdentityUnavailableError


@pytest.fixture(autouse=True)
def ada(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pwd.getpwnam
    entry = pwd.struct_passwd(("ada", "x", 54321, 54321, "", "/home/ada", "/bin/bash"))
    monkeypatch.setattr(pwd, "getpwnam", foreign("getpwnam", lambda name: entry if name == "ada" else real(name)))


class Site:
    """A provider whose program can be written anew."""

    def __init__(self, core: SimulatedCore, folder: Path, clock: Clock) -> None:
        self.program = folder / "who-is"
        self.asked = folder / "asked"
        self.say('{"user": "ada", "account": "physics"}')
        users = {"mapping": "script", "script": str(self.program), "script_timeout": "2s", "script_cache": "5m"}
        self.provider = Provider.open(configuration(core, folder, users=users), now=clock)

    def write(self, *lines: str) -> None:
        self.program.write_text("\n".join(("#!/bin/sh", f"cat >> {self.asked}", *lines, "")))
        self.program.chmod(0o755)

    def say(self, text: str) -> None:
        self.write(f"cat <<'END'\n{text}\nEND")

    def times(self) -> int:
        return self.asked.read_text().count("\n") if self.asked.exists() else 0


@pytest.fixture
def site(core: SimulatedCore, tmp_path: Path, clock: Clock) -> Site:
    return Site(core, tmp_path, clock)


def test_the_program_gets_the_question_as_json_and_its_answer_counts(site: Site) -> None:
    identity = site.provider.mapping.identity("Ada#1", "p-1")
    assert (identity.person.user, identity.person.home, identity.account) == ("ada", "/home/ada", "physics")
    assert site.asked.read_text() == '{"version": 1, "user": "Ada#1", "project": "p-1"}\n'


def test_an_answer_is_kept_for_a_while_for_this_person_and_project(site: Site, clock: Clock) -> None:
    for _ in range(3):
        site.provider.mapping.identity("Ada#1", None)
    assert site.times() == 1
    site.provider.mapping.identity("Ada#1", "p-1")
    site.provider.mapping.identity("Ada#2", None)
    assert site.times() == 3
    clock.advance(301)
    site.provider.mapping.identity("Ada#1", None)
    assert site.times() == 4


def test_what_the_program_refuses_the_researcher_reads_until_soon_after_it_does_not(site: Site, clock: Clock) -> None:
    site.say('{"refused": "Your contract has ended."}')
    for _ in range(3):
        with pytest.raises(Forbidden, match=r"^Your contract has ended\.$"):
            site.provider.mapping.identity("Ada#1", None)
    assert site.times() == 1, "a refusal is kept too"
    site.say('{"user": "ada"}')
    clock.advance(30)
    assert site.provider.mapping.identity("Ada#1", None).account is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "[]",
        "{}",
        '{"user": 5}',
        '{"user": null}',
        '{"user": ["ada"]}',
        '{"user": "ada", "account": 7}',
        '{"refused": true}',
        '{"user": "ada"} {"user": "eve"}',
        "{" * 5000,
    ],
)
def test_what_is_no_clear_answer_is_none_and_the_journal_says_what_it_was(
    site: Site, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.say(text)
    with caplog.at_level(logging.ERROR), pytest.raises(IdentityUnavailableError, match="try again") as trouble:
        site.provider.mapping.identity("Ada#1", None)
    assert trouble.value.status == 500
    assert "users.script" in caplog.text
    site.say('{"user": "ada"}')
    assert site.provider.mapping.identity("Ada#1", None).person.user == "ada"


@pytest.mark.parametrize(
    "lines",
    [
        ("echo no directory >&2", "exit 3"),
        ("kill -9 $$",),
        ('echo \'{"user": "ada"}\'', "exit 1"),
        ("head -c 200000 /dev/zero | tr '\\0' x",),
    ],
)
def test_a_program_that_fails_maps_no_user(site: Site, lines: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    site.write(*lines)
    with caplog.at_level(logging.ERROR), pytest.raises(IdentityUnavailableError):
        site.provider.mapping.identity("Ada#1", None)
    assert len([record for record in caplog.records if "users.script" in record.getMessage()]) == 1


def test_a_program_that_hangs_is_ended_with_all_that_it_started(site: Site, tmp_path: Path) -> None:
    site.write(f"sleep 600 & echo $! > {tmp_path}/child", "wait")
    begun = time.monotonic()
    with pytest.raises(IdentityUnavailableError):
        site.provider.mapping.identity("Ada#1", None)
    assert time.monotonic() - begun < 6
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")

    def has_ended() -> bool:
        return not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_until("what it started has ended", has_ended, seconds=10)


@pytest.mark.parametrize("user", ["root", "root ", "daemon", "-r", "a/b", "nobody-at-all", "ada\\n", "ADA", ""])
def test_an_account_that_jobs_may_not_run_as_is_not_taken_from_the_program_either(site: Site, user: str) -> None:
    site.say(f'{{"user": "{user}"}}')
    with pytest.raises((Forbidden, IdentityUnavailableError)):
        site.provider.mapping.identity("Ada#1", None)


def test_the_program_sees_nothing_of_our_environment(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OUR_SECRET", "x")
    site.write(f"env > {tmp_path}/env", 'echo \'{"user": "ada"}\'')
    site.provider.mapping.identity("Ada#1", None)
    assert "OUR_SECRET" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o644])
def test_a_program_that_others_could_change_is_not_run(core: SimulatedCore, tmp_path: Path, clock: Clock, mode: int) -> None:
    site = Site(core, tmp_path, clock)
    site.program.chmod(mode)
    with pytest.raises(Misconfigured, match=r"users\.script.*chmod 755"):
        Provider.open(site.provider.config, now=clock)


def test_a_mapping_by_script_needs_a_script_that_is_there(core: SimulatedCore, tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(Misconfigured, match=r"users\.script"):
        configuration(core, tmp_path, users={"mapping": "script"})
    missing = configuration(core, tmp_path, users={"mapping": "script", "script": f"{tmp_path}/none"})
    with pytest.raises(Misconfigured, match="No such file"):
        Provider.open(missing, now=clock)


def test_a_relative_path_is_no_program(core: SimulatedCore, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"users\.script"):
        configuration(core, tmp_path, users={"mapping": "script", "script": "who-is"})
