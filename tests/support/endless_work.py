"""The file unit for a gunicorn of the tests, whose long changes never end by themselves."""

import json
import os
import socket
from typing import Any

from ucloud_slurm.config import parse
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system.journal import begin
from ucloud_slurm.transfer.app import Application
from ucloud_slurm.transfer.tasks import TaskRunner
from ucloud_slurm.transfer.unit import Unit
from ucloud_slurm.users.own_files import OwnFiles

others: list[socket.socket] = []


def endless(*_arguments: Any, **_more: Any) -> socket.socket:
    """A work whose process says nothing."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    others.append(theirs)
    return ours


begin()
OwnFiles.work = endless  # type: ignore[method-assign]
provider = Provider.open(parse(json.loads(os.environ["UCLOUD_SLURM_TEST_UNIT"])))
tasks = TaskRunner(provider)
tasks.start()
app = Application(Unit.of(provider), tasks)
