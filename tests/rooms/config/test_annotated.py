"""The annotated file: what it sets is what was given, and nothing else."""

import tomllib
from typing import Any

import pytest

from ucloud_slurm import config
from ucloud_slurm.config.annotated import EXAMPLE, annotated, literal

FULL: dict[str, Any] = {
    **EXAMPLE,
    "database": {"keep": "0s", "minimum_free": "1GiB"},
    "applications": {"load": {"R": ["R/4.3", 'q"uote'], "a b": []}, "srun_options": ["--mpi=pmix"]},
    "files": [{"ucloud": "/home", "local": "{home}", "read_only": True}, {"ucloud": "/p", "local": "/projects"}],
    "outside": [{"account": "physics", "product": "example-compute-1", "category": "example-compute", "created_by": "Åda#1"}],
    "users": {"names": r"[a-z]+\.x", "uid_floor": 2000},
}


def test_a_file_sets_what_it_was_given_and_nothing_else() -> None:
    text = annotated(FULL)
    set_ = {name: table for name, table in tomllib.loads(text).items() if table}
    assert set_ == FULL
    assert config.parse(tomllib.loads(text)) == config.parse(FULL)


def test_a_file_that_is_written_again_is_the_same() -> None:
    text = annotated(FULL)
    assert annotated(tomllib.loads(text)) == text


def test_a_key_that_does_not_exist_is_kept_so_that_it_can_be_named() -> None:
    assert tomllib.loads(annotated({**EXAMPLE, "slurm": {"colour": "red"}}))["slurm"] == {"colour": "red"}


@pytest.mark.parametrize("value", [True, 0, 1.5, "", 'a"b\\c', "tab\tand\x7f\x01", "ü", ["a", ["b"]], {"x y": {"z": 1}}])
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    assert tomllib.loads(f"key = {literal(value)}") == {"key": value}


@pytest.mark.parametrize(
    ("table", "name", "value", "words"),
    [
        ("provider", "id", "a/b", "provider.id: string should match"),
        ("ucloud", "url", "http://cloud.example.org", "ucloud.url: must begin with https://"),
        ("users", "mapping", "magic", "users.mapping: should be"),
        ("provider", "id", "example", None),
        ("users", "script", "/etc/who", None),
    ],
)
def test_one_key_is_checked_without_the_others(table: str, name: str, value: str, words: str | None) -> None:
    found = config.problem(table, name, value)
    assert found is None if words is None else words in (found or "")
