"""The file unit for a gunicorn of the tests, over the database of a test, whose users are all this account."""

import json
import os

from ucloud_slurm.config import parse
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system.journal import begin
from ucloud_slurm.transfer.app import Application
from ucloud_slurm.transfer.unit import Unit

begin()
app = Application(Unit.of(Provider.open(parse(json.loads(os.environ["UCLOUD_SLURM_TEST_UNIT"])))))
