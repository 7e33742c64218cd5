"""Renders the templates of an application in a child process with hard limits on time and memory."""

import json
import signal
from dataclasses import asdict

from ucloud_slurm.bridge.template.messages import Rendered, Request, WebPage
from ucloud_slurm.errors import NotNow, Refused, one_line
from ucloud_slurm.system.child import isolated
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, run

LEAST_SECONDS = 0.2  # with less no process is started
REQUEST_SECONDS = 2.0  # while a request waits
WORKER_SECONDS = 20.0  # in a pass of the worker; what limits a template is the CPU time of the child
CHILD = "ucloud_slurm.provider.rendering_child"
_TOO_SLOW = (-signal.SIGXCPU, -signal.SIGKILL)


class RenderingUnavailableError(NotNow):
    """The child process did not start or did not answer in time, which says nothing about the template."""


def render(request: Request, within: float = REQUEST_SECONDS) -> Rendered:
    """Renders the templates of an application.

    :param within: seconds
    :raises Refused: a template is wrong, or exceeds a limit
    :raises RenderingUnavailableError: a retry can succeed
    """
    if within < LEAST_SECONDS:
        raise RenderingUnavailableError("a template could not be rendered yet: there is no time left")
    try:
        done = run(isolated(CHILD), {}, within, json.dumps(asdict(request)))
    except (CommandMissingError, CommandTimeoutError) as error:
        raise RenderingUnavailableError(f"a template could not be rendered yet: {error}") from None
    if done.status in _TOO_SLOW:
        raise Refused("the template takes too long.")
    if done.status > 0:
        raise RenderingUnavailableError(f"a template could not be rendered yet: {one_line(done.errors[-200:])}")
    try:
        answer = json.loads(done.output) if done.status == 0 else {}
    except ValueError:
        answer = {}
    if "refused" in answer:
        raise Refused(answer["refused"])
    if "rendered" not in answer:
        raise Refused("the template cannot be rendered within the limits of this provider.")
    rendered = answer["rendered"]
    loaded = tuple((name, version) for name, version in rendered.pop("loaded"))
    pages = tuple(WebPage(*page) for page in rendered.pop("pages"))
    return Rendered(loaded=loaded, pages=pages, **rendered)
