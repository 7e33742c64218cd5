"""Only a decision in its one form, about the jobs that were asked about, changes anything."""

import json
from typing import Any

import pytest

from ucloud_slurm.config import JobChanges
from ucloud_slurm.hooks.decision import read, text
from ucloud_slurm.hooks.program import HookFailedError


@pytest.mark.parametrize("output", ["", " \n", "{}", '{"jobs": {}}', '{"jobs": {"7": {}}}'])
def test_a_program_that_says_nothing_changes_nothing(output: str) -> None:
    decision = read(output, ["7"])
    assert decision.refusal is None
    assert [text(change) for change in decision.changes.values()] in ([], [None])


def test_a_refusal_is_one_bounded_line_with_a_status() -> None:
    decision = read(json.dumps({"refuse": "Not\n\x1b[1mtoday. " + "x" * 1000, "status": 402}), ["7"])
    assert decision.status == 402
    assert decision.refusal is not None
    assert decision.refusal.startswith("Not [1mtoday. xxx")
    assert len(decision.refusal) == 300
    assert read('{"refuse": "No."}', ["7"]).status == 403


def test_account_qos_and_partition_can_change() -> None:
    changed = {"account": "physics", "qos": "long", "partition": "gpu,cpu"}
    decision = read(json.dumps({"jobs": {"7": changed, "8": {"qos": "short"}}}), ["7", "8", "9"])
    assert decision.changes == {"7": JobChanges(**changed), "8": JobChanges(qos="short")}
    assert text(decision.changes["8"]) == '{"qos": "short"}'


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "no",
        7,
        {"accept": True},
        {"refuse": ""},
        {"refuse": 7},
        {"refuse": "No.", "status": 200},
        {"refuse": "No.", "status": 500},
        {"refuse": "No.", "status": True},
        {"status": 403},
        {"jobs": []},
        {"jobs": {"8": {"qos": "long"}}},
        {"jobs": {"7": []}},
        {"jobs": {"7": {"user": "root"}}},
        {"jobs": {"7": {"script": "#!/bin/sh"}}},
        {"jobs": {"7": {"account": "--uid=0"}}},
        {"jobs": {"7": {"qos": "a b"}}},
        {"jobs": {"7": {"partition": ""}}},
        {"jobs": {"7": {"account": 7}}},
    ],
)
def test_anything_else_is_no_decision(answer: Any) -> None:
    with pytest.raises(HookFailedError, match="the answer of the program of job-accepted cannot be used: "):
        read(json.dumps(answer), ["7"])


@pytest.mark.parametrize("output", ["yes", '{"refuse": "No."', "[" * 100_000, "\x00"])
def test_what_is_no_json_is_no_decision(output: str) -> None:
    with pytest.raises(HookFailedError, match="printed no JSON"):
        read(output, ["7"])
