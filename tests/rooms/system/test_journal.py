"""The journal: each record is one line, as text or as an object, with the request that it was written for."""

import io
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ucloud_slurm.system import journal
from ucloud_slurm.system.config_file import VARIABLE, journal_form
from ucloud_slurm.system.request_id import Served, serving

log = logging.getLogger("ucloud_slurm.tests")
Written = Callable[[], str]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """What a daemon has written since the last look; its standard error is no terminal and not the journal."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    journal.begin()
    stream = io.StringIO()
    (handler,) = logging.getLogger(journal.PACKAGE).handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)

    def read() -> str:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return text

    return read


def objects(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_of_text_is_as_ever_outside_requests_and_ends_with_the_id_inside(written: Written) -> None:
    log.warning("job %s: waits\nfor %s", "5", "n1")
    with serving(Served("abcdefgh", "Ada#1")):
        log.error("no")
    assert written() == "<4>job 5: waits for n1\n<3>no [abcdefgh]\n"


def test_a_line_of_json_has_all_that_is_known_and_nothing_else(written: Written) -> None:
    journal.write_as("json")
    with serving(Served("abcdefgh", "Ada#1\n")):
        log.warning("job %s: waits\nfor %s", "5", "n1")
    log.info("the %s", "outbox")
    first, second = objects(written())
    times = [first.pop("time"), second.pop("time")]
    assert first == {
        "level": "warning",
        "logger": "ucloud_slurm.tests",
        "message": "job 5: waits for n1",
        "job": "5",
        "request": "abcdefgh",
        "user": "Ada#1",
    }
    assert second == {"level": "info", "logger": "ucloud_slurm.tests", "message": "the outbox"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)


def test_a_name_stands_in_a_line_of_json_as_it_is_so_that_it_is_found_and_replaced(written: Written) -> None:
    journal.write_as("json")
    with serving(Served("abcdefgh", "Søren#1")):
        log.warning("no")
    assert '"user": "Søren#1"' in written()


def test_the_reference_has_every_field(written: Written) -> None:
    journal.write_as("json")
    with serving(Served("abcdefgh", "Ada#1")):
        log.info("job %s: is Slurm job %d", "7", 1)
    text = (Path(__file__).parents[3] / "docs/reference/journal.rst").read_text()
    assert re.findall(r"^   \* - ``(\w+)``$", text, re.MULTILINE) == list(objects(written())[0])


def test_a_line_of_json_holds_no_stack_trace_and_no_value_of_an_error(written: Written) -> None:
    journal.write_as("json")
    try:
        raise ValueError("a secret")
    except ValueError:
        log.exception("unexpected")
    (line,) = objects(written())
    assert line["message"] == "unexpected (ValueError)"
    assert "secret" not in str(line)


def test_the_journal_of_systemd_gets_the_priority_before_the_object(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    journal.write_as("json")
    log.error("no")
    line = written()
    assert line[:3] == "<3>"
    assert json.loads(line[3:])["message"] == "no"


def test_a_sentence_for_the_administrator_has_the_form_of_the_other_lines(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.say("this is wrong")
    assert (written(), capsys.readouterr().err) == ("", "ucloud-slurm: this is wrong\n")
    journal.write_as("json")
    journal.say("this is wrong")
    assert [each["message"] for each in objects(written())] == ["this is wrong"]
    journal.write_as("text")
    log.info("text again")
    assert (written(), capsys.readouterr().err) == ("<6>text again\n", "")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('[journal]\nformat = "json"', "json"),
        ('[journal]\nformat = "text"', "text"),
        ("[provider]", "text"),
        ("journal = 1", "text"),
        ("[journal", "text"),
        (None, "text"),
    ],
)
def test_gunicorn_knows_the_form_without_the_rest_of_the_configuration(
    text: str | None, form: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "config.toml").write_text(text)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "config.toml"))
    assert journal_form() == form
