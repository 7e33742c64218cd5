"""The WSGI application for gunicorn: ``gunicorn ucloud_slurm.wsgi:app``."""

import os
import sys

from ucloud_slurm.app import create_app
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system import journal
from ucloud_slurm.system.config_file import journal_form

journal.begin()
journal.write_as(journal_form())
try:
    app = create_app()
except Misconfigured as error:
    for sentence in error.sentences:
        journal.say(sentence)
    # gunicorn's APP_LOAD_ERROR: the master ends, instead of starting workers for ever.
    sys.exit(4)
os.chdir("/")  # where jobs are submitted from (sbatch(1): SLURM_SUBMIT_DIR)
