"""Rendering the templates of an application in a short-lived process, which a template cannot outlive or outgrow."""

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from ucloud_slurm.bridge.template.messages import Rendered, Request
from ucloud_slurm.errors import NotNow, Refused, one_line
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, run

LEAST = 0.2  # seconds; with less no process is started
LIMIT = 2.0  # seconds while UCloud waits
PATIENCE = 20.0  # seconds while nobody waits; a template's own limit is the processor time of the process

# Isolated: no environment, no user's packages, no current folder; modules come from where ours came from.
_BEGIN = "import sys; sys.path[:] = sys.argv[1:]; from ucloud_slurm.provider.rendering_child import main; main()"
_PACKAGES = str(Path(__file__).parents[2])
_TOO_SLOW = (-signal.SIGXCPU, -signal.SIGKILL)


class RenderingUnavailableError(NotNow):
    """This host did not get round to it; nothing is known of the template."""


def render(request: Request, within: float = LIMIT) -> Rendered:
    """Renders the templates of an application.

    :param within: seconds
    :raises Refused: saying what is wrong with a template
    :raises RenderingUnavailableError: the host is too busy; it may be tried again
    """
    if within < LEAST:
        raise RenderingUnavailableError("a template could not be rendered yet: there is no time left")
    places = [_PACKAGES, *(place for place in sys.path if place.startswith("/"))]
    try:
        done = run([sys.executable, "-I", "-S", "-c", _BEGIN, *places], {}, within, json.dumps(asdict(request)))
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
    return Rendered(loaded=loaded, **rendered)
