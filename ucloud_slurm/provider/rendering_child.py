"""The child process that renders the templates of one application: JSON in, JSON out, and hard limits.

It imports as little as it can: it is started for every job with a template.
"""

import json
import resource
import sys
from dataclasses import asdict
from typing import Any

from ucloud_slurm.bridge.template.messages import Request
from ucloud_slurm.errors import Refused, one_line

CPU_SECONDS = 1
MEMORY_BYTES = 256 * 1024 * 1024  # of address space


def main() -> None:
    """Reads a request from the standard input and writes the result: ``rendered`` or ``refused``."""
    limits = {
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    request = json.load(sys.stdin)
    for limit, most in limits.items():
        # The hard limit on CPU time is one second later, so that the soft one ends the process, with SIGXCPU.
        resource.setrlimit(limit, (most, most + (limit == resource.RLIMIT_CPU)))
    from ucloud_slurm.bridge.template.render import render  # Jinja is loaded within the limits

    answer: dict[str, Any]
    try:
        request["absent"] = tuple(request["absent"])
        answer = {"rendered": asdict(render(Request(**request)))}
    except Refused as refusal:
        answer = {"refused": one_line(refusal.why)}
    except MemoryError:
        answer = {"refused": "the template needs too much memory."}
    except Exception as error:  # noqa: BLE001  every failure comes from the template
        answer = {"refused": f"the template cannot be rendered ({type(error).__name__})."}
    json.dump(answer, sys.stdout)
