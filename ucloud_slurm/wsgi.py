"""The WSGI application for gunicorn: ``gunicorn ucloud_slurm.wsgi:app``."""

import sys

from ucloud_slurm.app import create_app
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system.journal import begin

begin()
try:
    app = create_app()
except Misconfigured as error:
    for sentence in error.sentences:
        sys.stderr.write(f"ucloud-slurm: {sentence}\n")
    # gunicorn's APP_LOAD_ERROR: the master ends, instead of starting workers for ever.
    sys.exit(4)
