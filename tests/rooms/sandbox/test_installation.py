"""An installed product starts as fast as an administrator's, or every measurement and every test with a site is wrong."""

import subprocess
from pathlib import Path

from tests.sandbox.installation import Installation

# Bytecode counts for a module of the time that stands in it (PEP 552).
UNCOMPILED = """
import sys
import ucloud_slurm.app, ucloud_slurm.listener.listening, ucloud_slurm.users.runner, ucloud_slurm.worker.run
from pathlib import Path
for module in list(sys.modules.values()):
    spec = getattr(module, "__spec__", None)
    if spec is None or not spec.has_location or not spec.cached or sys.prefix not in spec.origin:
        continue
    bytecode = Path(spec.cached)
    time = int.from_bytes(bytecode.read_bytes()[8:12], "little") if bytecode.exists() else None
    if time != int(Path(spec.origin).stat().st_mtime):
        print(spec.origin)
"""


def test_nothing_of_an_installed_product_is_compiled_at_each_start(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "product")
    installation.make()
    command = [installation.python, "-c", UNCOMPILED]
    done = subprocess.run(command, env=installation.environment(), cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == []
