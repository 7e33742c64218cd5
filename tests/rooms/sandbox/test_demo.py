"""The demonstration says "as the guide says" only if it was, word for word."""

from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.demo.guide import (
    ACCOUNTING,
    ACCOUNTING_REPORTED,
    MISSING_CREDITS,
    MISSING_CREDITS_REPORTED,
    OUT_OF_SYNC,
    OUT_OF_SYNC_REPORTED,
    Conversation,
    Row,
)

TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial" / "first-job.rst"
CORE = ("create", "terminate", "verify")
Step = tuple[str, dict[str, Any], bool]


def name(call: str) -> str:
    if call == "reportUsage":
        return "accounting.v2.reportUsage"
    return f"jobs.provider.example.{call}" if call in CORE else f"jobs.control.{call}"


def update(state: str, status: str = "x") -> dict[str, Any]:
    return {"items": [{"id": "1", "update": {"state": state, "status": status}}]}


CHARGE: Step = ("chargeCredits", {"items": [{"units": 1}]}, False)
NO_FUNDS: Step = ("chargeCredits", {"status": 402}, True)
BEGIN: list[Step] = [("create", {}, False), ("create", {"status": 200}, True), ("update", update("RUNNING"), False)]
SUCCESS: Step = ("update", update("SUCCESS"), False)
POOR: Step = ("update", update("SUCCESS", "Insufficient funds"), False)


def reported(minutes: int, *, left: bool = True) -> list[Step]:
    answer = {"status": 200, "body": {"responses": [left]}}
    return [("reportUsage", {"items": [{"usage": minutes}]}, False), ("reportUsage", answer, True)]


RIGHT: dict[tuple[Row, ...], list[Step]] = {
    ACCOUNTING: [*BEGIN, CHARGE, CHARGE, CHARGE, ("terminate", {}, False), CHARGE, SUCCESS],
    MISSING_CREDITS: [*BEGIN, CHARGE, NO_FUNDS, POOR],
    ACCOUNTING_REPORTED: [*BEGIN, *reported(1), *reported(2), *reported(3), ("terminate", {}, False), *reported(4), SUCCESS],
    MISSING_CREDITS_REPORTED: [*BEGIN, *reported(1, left=False), POOR],
}


def play(rows: tuple[Row, ...], steps: list[Step]) -> tuple[Conversation, list[str]]:
    lines: list[str] = []
    conversation = Conversation("t", rows, lines.append)
    for call, content, answer in steps:
        conversation.said(name(call), "54112", content, answer=answer)
    return conversation, lines


@pytest.mark.parametrize("rows", RIGHT)
def test_a_conversation_as_in_the_guide_is_complete(rows: tuple[Row, ...]) -> None:
    conversation, lines = play(rows, RIGHT[rows])
    assert conversation.complete
    assert len(lines) == len(rows)


@pytest.mark.parametrize("rows", RIGHT)
def test_a_conversation_with_a_step_too_few_too_many_or_out_of_order_is_not(rows: tuple[Row, ...]) -> None:
    right = RIGHT[rows]
    for place in range(len(right)):
        assert not play(rows, right[:place] + right[place + 1 :])[0].complete
        if place + 1 < len(right) and right[place] != right[place + 1]:
            swapped = [*right[:place], right[place + 1], right[place], *right[place + 2 :]]
            assert not play(rows, swapped)[0].complete
    assert not play(rows, [*right, CHARGE])[0].complete


@pytest.mark.parametrize(
    "wrong",
    [
        ("update", update("FAILURE"), False),
        ("update", update("SUCCESS", "no"), False),
        CHARGE,
        NO_FUNDS,
        ("chargeCredits", {"items": [{"units": 2}]}, False),
    ],
)
def test_a_step_with_other_contents_is_wrong_and_said_so(wrong: Step) -> None:
    conversation, lines = play(MISSING_CREDITS, [*BEGIN, CHARGE, NO_FUNDS, wrong])
    assert not conversation.complete
    assert lines[-1].startswith("WRONG: ")


def test_a_report_may_be_said_once_more_and_another_one_may_not() -> None:
    again = [*BEGIN, *reported(1, left=False), *reported(1, left=False), POOR, *reported(1, left=False)]
    assert play(MISSING_CREDITS_REPORTED, again)[0].complete
    assert not play(MISSING_CREDITS_REPORTED, [*again, *reported(2, left=False)])[0].complete


@pytest.mark.parametrize("rows", [OUT_OF_SYNC, OUT_OF_SYNC_REPORTED])
def test_a_comment_out_of_turn_is_wrong(rows: tuple[Row, ...]) -> None:
    conversation, _ = play(rows, BEGIN)
    conversation.comment("54112")
    assert conversation.wrong


def test_the_tutorial_shows_what_the_demonstration_prints() -> None:
    _, lines = play(ACCOUNTING_REPORTED, RIGHT[ACCOUNTING_REPORTED])
    shown = [line.strip() for line in TUTORIAL.read_text().splitlines() if line.strip().startswith("accounting ")]
    assert len(shown) >= 4
    for line in shown:
        assert line.removeprefix("accounting      | ") in lines
