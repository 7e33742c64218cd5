"""What is tried with real pyslurm is tried only where that is demanded."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The tests of a site with pyslurm need a Slurm for which it was built."""
    demanded = config.getoption("--backend", default=None) == "pyslurm"
    return True if collection_path.name == "test_real_pyslurm.py" and not demanded else None
