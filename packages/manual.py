"""The manual pages, from what the reference pages are generated from."""

import gzip
from importlib import import_module
from pathlib import Path

from docutils.core import publish_string

from packages.targets import Release

COMMAND = """
============
ucloud-slurm
============

-----------------------------------------
a Slurm cluster as a provider of UCloud
-----------------------------------------

:Manual section: 1
:Manual group: ucloud-slurm
:Version: {version}

Description
===========

``ucloud-slurm`` runs as the daemon user, never as root: ``runuser -u ucloud-slurm -- ucloud-slurm jobs``. Only ``link`` and
``unlink`` run as the user who types them.

Commands
========

{text}

Files
=====

``/etc/ucloud-slurm/config.toml``
   The configuration: ucloud-slurm-config(5).

``/etc/ucloud-slurm/gunicorn.conf.py``, ``/etc/ucloud-slurm/gunicorn-files.conf.py``
   How the web service and the file unit are served.

``/var/lib/ucloud-slurm``
   The database, and its backups.

``/usr/share/doc/ucloud-slurm``
   The guides, and examples of the configuration, of nginx's, and of the rule of sudo.

See also
========

ucloud-slurm-config(5), systemctl(1), sbatch(1)
"""
CONFIGURATION = """
===================
ucloud-slurm-config
===================

-------------------------------------
the configuration of ucloud-slurm
-------------------------------------

:Manual section: 5
:Manual group: ucloud-slurm
:Version: {version}

Description
===========

``/etc/ucloud-slurm/config.toml``, or the file that the variable ``UCLOUD_SLURM_CONFIG`` names, is written in TOML. Durations
are text: ``"30s"``, ``"15m"``, ``"2h"``, ``"7d"``. Unknown keys are errors. ``ucloud-slurm check`` tries the file.

Tables
======

{text}

See also
========

ucloud-slurm(1)
"""


def write(release: Release, folder: Path) -> None:
    """Writes the pages, compressed, below a folder ``man``."""
    generate = import_module("docs.generate")
    pages = {
        "man1/ucloud-slurm.1": (COMMAND, generate.commands()),
        "man5/ucloud-slurm-config.5": (CONFIGURATION, generate.configuration()),
    }
    for name, (frame, text) in pages.items():
        path = folder / f"{name}.gz"
        path.parent.mkdir(parents=True)
        page = publish_string(
            frame.format(version=f"ucloud-slurm {release.version}", text=text),
            writer="manpage",
            settings_overrides={"report_level": 2, "halt_level": 2, "_disable_config": True},
        )
        path.write_bytes(gzip.compress(page, mtime=0))
