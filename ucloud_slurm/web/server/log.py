"""gunicorn's own lines in the form that ``journal.format`` says: ``logger_class = "ucloud_slurm.web.server.log.Log"``."""

from typing import Any

from gunicorn.glogging import Logger

from ucloud_slurm.system import journal
from ucloud_slurm.system.config_file import journal_form


class Log(Logger):  # type: ignore[misc]
    """gunicorn calls ``setup`` at its start, and when it reads its configuration again."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers if journal_form() == "json" else ():
            handler.setFormatter(journal.objects())
