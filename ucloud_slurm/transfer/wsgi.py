"""The application of the file unit for gunicorn: ``gunicorn -c gunicorn-files.conf.py ucloud_slurm.transfer.wsgi:app``."""

import sys

from ucloud_slurm.config import read
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system import journal
from ucloud_slurm.system.config_file import journal_form
from ucloud_slurm.system.limits import raise_open_files
from ucloud_slurm.transfer.app import Application
from ucloud_slurm.transfer.tasks import TaskRunner
from ucloud_slurm.transfer.unit import Unit
from ucloud_slurm.transfer.upkeep import Upkeep
from ucloud_slurm.users.service import refuse_root


def create_app() -> Application:
    """Opens the unit that the configuration describes, and begins what it does by itself.

    :raises Misconfigured: lists everything that is wrong
    """
    refuse_root()
    unit = Unit.of(Provider.open(read()))
    raise_open_files()
    Upkeep(unit).begin()
    tasks = TaskRunner(unit.provider)
    tasks.start()
    return Application(unit, tasks)


journal.begin()
journal.write_as(journal_form())
try:
    app = create_app()
except Misconfigured as error:
    for sentence in error.sentences:
        journal.say(sentence)
    # gunicorn's APP_LOAD_ERROR: the master ends, instead of starting workers for ever.
    sys.exit(4)
