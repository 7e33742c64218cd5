"""slurm.backend selects the backend, and a missing module does not prevent the start of the service."""

import logging
import sys
from pathlib import Path

import pytest

from tests.rooms.slurm.stand_ins import FAKE, Bench
from ucloud_slurm.config import SlurmSection, parse_table
from ucloud_slurm.slurm import factory
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.pyslurm.backend import PySlurm


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A place where the module is installed."""
    monkeypatch.syspath_prepend(FAKE)
    return Bench(tmp_path)


def section(bench: Bench, backend: str) -> SlurmSection:
    return parse_table(SlurmSection, {"backend": backend, "commands": bench.commands, "conf": bench.conf})


@pytest.mark.parametrize(("wanted", "lines"), [("auto", 0), ("pyslurm", 1), ("commands", 0)])
def test_without_the_module_the_commands_are_used(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wanted: str, lines: int
) -> None:
    monkeypatch.setitem(sys.modules, "pyslurm", None)
    with caplog.at_level(logging.INFO, "ucloud_slurm"):
        assert type(factory.scheduler(section(bench, wanted))) is Commands
    assert len(caplog.messages) == lines
    as_wanted, text = factory.self_test(section(bench, wanted))
    assert as_wanted is (wanted != "pyslurm")
    assert ("pyslurm is not installed" in text) is (wanted != "commands")


@pytest.mark.parametrize(("wanted", "kind"), [("auto", PySlurm), ("pyslurm", PySlurm), ("commands", Commands)])
def test_the_module_is_used_unless_the_commands_are_named(bench: Bench, wanted: str, kind: type) -> None:
    assert type(factory.scheduler(section(bench, wanted))) is kind
    assert factory.self_test(section(bench, wanted)) == (
        True,
        "Slurm's commands are used" if wanted == "commands" else "pyslurm can be used",
    )


@pytest.mark.parametrize(("wanted", "level"), [("auto", logging.INFO), ("pyslurm", logging.WARNING)])
def test_a_module_that_does_not_fit_is_a_failure_only_where_it_is_named(
    bench: Bench, caplog: pytest.LogCaptureFixture, wanted: str, level: int
) -> None:
    bench.order(**{"import": "old"})
    as_wanted, text = factory.self_test(section(bench, wanted))
    assert as_wanted is (wanted == "auto")
    assert "Slurm's commands are used, not pyslurm: pyslurm 18.8.1.1 is of the older generation" in text
    assert caplog.messages == []
    slurm = factory.scheduler(section(bench, wanted))
    assert isinstance(slurm, PySlurm)
    with caplog.at_level(logging.INFO, "ucloud_slurm"):
        assert not slurm.ready(20)
    slurm.close()
    assert [record.levelno for record in caplog.records] == [level]


def test_looking_for_the_module_does_not_load_it(bench: Bench) -> None:
    factory.scheduler(section(bench, "auto"))
    assert "pyslurm" not in sys.modules
