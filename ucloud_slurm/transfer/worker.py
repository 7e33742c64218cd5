"""gunicorn's worker of the file unit: at a stop, transfers have time to end, and long changes are given back at once.

``worker_class = "ucloud_slurm.transfer.worker.Worker"``. What it uses of gunicorn's internals is listed in
``tests/rooms/web/test_gunicorn_internals.py``.
"""

from typing import Any

from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):  # type: ignore[misc]
    """See the module. Its application is a :class:`ucloud_slurm.transfer.app.Application`."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A stop begins (SIGTERM): the next process may do the long changes while transfers end here."""
        if self.alive:
            self.wsgi.begin_stop()
        super().handle_exit(sig, frame)

    def run(self) -> None:
        """Serves until it is stopped; what is under way beside the transfers is given back before the process ends."""
        super().run()
        self.wsgi.stop()
