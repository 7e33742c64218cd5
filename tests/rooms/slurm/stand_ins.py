"""The backend over a stand-in for pyslurm and stand-ins for Slurm's commands, in a folder of its own."""

import json
import os
from pathlib import Path
from typing import Any

from ucloud_slurm.slurm.pyslurm.backend import PySlurm
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.process import Command

FAKE = Path(__file__).parent / "fake_pyslurm"

_COMMAND = r"""#!/bin/sh
here={folder}
case "$*" in --version) echo "slurm $(cat $here/release)"; exit;; "show config") cat $here/settings; exit $?;; esac
echo "${{0##*/}} $*" | tr -d "\036\037\n" >> $here/commands.log; echo >> $here/commands.log
[ "${{0##*/}}" = sbatch ] && echo 900
exit 0
"""
ATTRIBUTES = {
    "name": "ucloud-1",
    "user_name": own_account(),
    "state": "RUNNING",
    "state_reason": "None",
    "submit_time": 1000,
    "start_time": 1001,
    "run_time": 60,
    "num_nodes": 2,
    "cpus": 8,
    "allocated_nodes": "n[1-2]",
    "time_limit": 90,
    "account": "proj-a",
    "partition": "cpu",
    "user_id": os.getuid(),
    "requeue_count": 0,
}


def submission(**more: Any) -> Submission:
    """A submission that pyslurm can do."""
    usual: dict[str, Any] = {
        "user": own_account(),
        "name": "ucloud-1",
        "comment": "one",
        "script": "#!/bin/bash\ntrue\n",
        "partition": "cpu",
        "nodes": 1,
        "cpus": 2,
        "memory": 100,
        "gres": None,
        "minutes": 5,
        "account": None,
        "qos": None,
        "constraint": None,
        "reservation": None,
        "folder": "/tmp",
        "output": "/tmp/out",
        "error": "/tmp/err",
    }
    return Submission(**usual | more)


class Bench:
    """One backend, and what reached whom."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        self.commands = folder / "bin"
        self.commands.mkdir()
        for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct", "sinfo"):
            path = self.commands / name
            path.write_text(_COMMAND.format(folder=folder))
            path.chmod(0o755)
        (folder / "release").write_text("25.11.7")
        (folder / "settings").write_text("CliFilterPlugins        = (null)\nPropagateResourceLimits = NONE\n")
        self.conf = folder / "slurm.conf"
        self.conf.touch()
        (folder / "landed").touch()
        self.order()
        self.slurm = PySlurm(self.commands, self.conf, 20.0, **more)

    def order(self, **orders: Any) -> None:
        """Says what the module does from now on."""
        (self.folder / "orders.json").write_text(json.dumps({"attributes": ATTRIBUTES} | orders))

    def submit(self, within: float = 10.0, **more: Any) -> SlurmJobId:
        """Submits a job."""
        return self.slurm.start(submission(**more), Command).send(within)

    def landed(self) -> list[dict[str, Any]]:
        """What pyslurm has submitted."""
        return [json.loads(line) for line in (self.folder / "landed").read_text().splitlines()]

    def asked(self) -> list[str]:
        """Slurm's commands that were run."""
        log = self.folder / "commands.log"
        return log.read_text().splitlines() if log.exists() else []

    def process(self) -> int:
        """The number of the process in which pyslurm lives."""
        child = self.slurm._processes.first._child
        assert child is not None
        return child._process.pid
