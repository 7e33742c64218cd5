"""A stand-in for the module, for what the real one cannot be made to do on demand. Its orders lie in a file.

The file is ``orders.json`` beside slurm.conf: what happens at ``import`` and in a call. Submissions that "landed" are
written down in ``landed`` there.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

__version__ = "25.11.2"
_FOLDER = Path(os.environ["SLURM_CONF"]).parent


def _orders() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_FOLDER / "orders.json").read_text())
    return found


def _obey(call: str) -> None:
    match _orders().get(call):
        case "hang":
            time.sleep(1000)
        case "exit":
            os.write(2, b"pyslurm: fatal: something dreadful\n")
            os._exit(1)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise ImportError("libslurm.so.44: cannot open shared object file")
        case "wrong":
            raise ValueError("that is none")
        case "noise":
            os.write(1, b"\0\0\0\5noise" * 1000)
            os.write(2, b"slurm: error: noise\n" * 1000)
        case [int(number), str(text)]:
            raise RPCError(number, text)


class RPCError(Exception):
    """An answer of Slurm's that is an error."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno


_obey("import")


class JobSubmitDescription:
    """Takes whatever it is given."""

    def __init__(self, **wanted: Any) -> None:
        self.wanted = wanted

    def submit(self) -> Any:
        """Lands, and then obeys."""
        if not isinstance(_orders().get("submit"), list):
            with (_FOLDER / "landed").open("a") as landed:
                landed.write(json.dumps(self.wanted) + "\n")
        _obey("submit")
        return _orders().get("id", len((_FOLDER / "landed").read_text().splitlines()))


class Job:
    """A job as the orders describe it."""

    def __init__(self, job_id: int) -> None:
        self.id = job_id

    @staticmethod
    def load(job_id: int) -> "Job":
        """The job."""
        _obey("job")
        job = Job(job_id)
        vars(job).update(_orders().get("attributes", {}))
        return job

    def modify(self, changes: JobSubmitDescription) -> None:
        """Notes the change."""
        _obey("modify")
        (_FOLDER / "changed").write_text(json.dumps(changes.wanted))

    def cancel(self) -> None:
        """Notes it."""
        _obey("cancel")
        with (_FOLDER / "cancelled").open("a") as cancelled:
            cancelled.write(f"{self.id}\n")


if _orders().get("import") == "old":
    __version__ = "18.8.1.1"
    del Job, JobSubmitDescription
