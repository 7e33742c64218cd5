"""The file unit for a gunicorn of the tests, over the database of a test, whose users are all this account."""

import json
import os

from ucloud_slurm.config import parse
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.transfer.app import Application
from ucloud_slurm.transfer.unit import Unit

VARIABLE = "UCLOUD_SLURM_TEST_UNIT"
"""Names the configuration, as JSON."""

app = Application(Unit.of(Provider.open(parse(json.loads(os.environ[VARIABLE])))))
