"""The ready hook in etc/hooks, as a module."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PATH = Path(__file__).parents[2] / "etc/hooks/slurm_accounts.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slurm_accounts", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["slurm_accounts"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
