"""The threat model is true: each line names a test or an attack that is there, and no attack is without a line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.attack.run import ATTACKS

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "SECURITY.rst").read_text(encoding="utf-8")
DEFENCES = "Shown by"


def tables() -> Iterator[list[list[str]]]:
    """The rows of each table, as cells."""
    for text in MODEL.split(".. list-table::")[1:]:
        body = re.split(r"\n(?=\S)", text)[0]
        yield [re.split(r"\n     - ", row) for row in re.split(r"\n   \* - ", body)[1:]]


def defences() -> list[list[str]]:
    return [row for rows in tables() if rows[0][-1].startswith(DEFENCES) for row in rows[1:]]


def names() -> set[str]:
    """The attacks that it names."""
    return set(re.findall(r"``attack:([a-z0-9-]+)``", MODEL))


def test_there_are_lines_about_each_actor() -> None:
    assert len(defences()) > 25
    for actor in {attack.actor for attack in ATTACKS}:
        assert actor in MODEL


@pytest.mark.parametrize("row", defences(), ids=lambda row: " ".join(row[0].split()))
def test_each_line_says_what_shows_it(row: list[str]) -> None:
    assert len(row) == 3
    assert re.search(r"``(attack:[a-z0-9-]+|tests/[\w/]+\.py::\w+)``", row[2])


def test_the_attacks_that_it_names_are_those_of_the_kit() -> None:
    assert names() == {attack.name for attack in ATTACKS}


@pytest.mark.parametrize("reference", sorted(set(re.findall(r"``(tests/\S+?::\w+)``", MODEL))))
def test_the_tests_that_it_names_exist(reference: str) -> None:
    path, _, name = reference.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
