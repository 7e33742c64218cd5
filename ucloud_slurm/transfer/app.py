"""The WSGI application of the file unit: four routes, and their errors as sentences."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ucloud_slurm.bridge.drives import TRANSFER_PATH
from ucloud_slurm.errors import NotFound, NotNow, Problem, Refused, one_line, place
from ucloud_slurm.system.request_id import identified
from ucloud_slurm.transfer.chunked import preflight, upload
from ucloud_slurm.transfer.download import download
from ucloud_slurm.transfer.exchange import ClientGoneError, Exchange, Origins, StartResponse
from ucloud_slurm.transfer.folder_socket import folder_socket
from ucloud_slurm.transfer.tasks import TaskRunner
from ucloud_slurm.transfer.unit import Unit

NOT_NOW = Problem("The cluster does not answer at the moment; please try again in a minute.")
INTERNAL = Problem("Internal error of the provider")

Route = Callable[[Unit, Exchange], list[bytes]]

log = logging.getLogger(__name__)


class Application:
    """The routes over a unit. Called by many threads.

    :param tasks: what does the long changes meanwhile; None: nothing does
    """

    def __init__(self, unit: Unit, tasks: TaskRunner | None = None) -> None:
        config = unit.provider.config
        base = f"/ucloud/{config.provider.id}/{TRANSFER_PATH}"
        self._unit = unit
        self._tasks = tasks
        self._origins = Origins.of((config.ucloud.url, *config.ucloud.origins))
        self._routes: Mapping[tuple[str, str], Route] = {
            ("GET", f"{base}/download"): download,
            ("HEAD", f"{base}/download"): download,
            ("POST", f"{base}/upload"): upload,
            ("OPTIONS", f"{base}/upload"): lambda _unit, exchange: preflight(exchange),
            ("GET", f"{base}/folder"): folder_socket,
        }
        self._identified = identified(self._serve)
        self._paths = {path for _, path in self._routes}

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request (PEP 3333)."""
        return self._identified(environ, start_response)

    def _serve(self, environ: Mapping[str, Any], start_response: StartResponse) -> list[bytes]:
        exchange = Exchange(environ, start_response, self._origins)
        try:
            return self._route(exchange)(self._unit, exchange)
        except Problem as problem:
            if problem.status >= 500:
                log.warning("transfer: %s", one_line(problem.why))
            return _answer(exchange, problem)
        except NotNow as error:
            log.warning("transfer: %s", one_line(str(error)))
            return _answer(exchange, NOT_NOW)
        except (ClientGoneError, BrokenPipeError, ConnectionResetError):
            return []
        except Exception as error:
            log.error("unexpected error at %s; please report it", place(error), exc_info=True)
            return _answer(exchange, INTERNAL)

    def begin_stop(self) -> None:
        """Gives back the long changes, without waiting for that. It may be called by a signal handler."""
        if self._tasks is not None:
            self._tasks.begin_stop()

    def stop(self) -> None:
        """Waits until they are given back."""
        if self._tasks is not None:
            self._tasks.stop()

    def _route(self, exchange: Exchange) -> Route:
        route = self._routes.get((exchange.verb, exchange.path))
        if route is None:
            if exchange.path in self._paths:
                raise Refused("This is not done with what is here.", status=405)
            raise NotFound("There is nothing here.")
        return route


def _answer(exchange: Exchange, problem: Problem) -> list[bytes]:
    """An error, where the head of an answer is not out yet."""
    if exchange.answered:
        return []
    return exchange.page(problem.status, "This did not work", problem.why)
