"""The environment modules of this host: the worker lists them now and then, and everybody else reads what it found.

A module tree can be slow, or hang with its file system. So nobody asks for it while somebody waits.
"""

from functools import lru_cache

from ucloud_slurm.bridge.script.modules import LARGEST_LIST_BYTES, list_script, listed
from ucloud_slurm.errors import NotNow, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, run

KIND = "modules"  # of the cache with the list, one in each line
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "LC_ALL": "C.UTF-8", "TERM": "dumb"}


class ModulesUnavailableError(NotNow):
    """The modules of this host could not be listed."""


def list_modules(init: str | None, within: float) -> tuple[str, ...]:
    """Lists the modules of this host, as jobs find them.

    :param init: ``jobs.modules_init``
    :param within: seconds
    :raises ModulesUnavailableError: says why
    """
    try:
        done = run(["/bin/bash", "--noprofile", "--norc", "-c", list_script(init)], ENVIRONMENT, within)
    except (CommandMissingError, CommandTimeoutError) as error:
        raise ModulesUnavailableError(f"the modules of this host could not be listed: {error}") from None
    if done.status != 0:
        raise ModulesUnavailableError(f"the modules of this host could not be listed: {one_line(done.errors, 200)}")
    return listed(done.output[:LARGEST_LIST_BYTES])


def known_modules(provider: Provider) -> tuple[str, ...]:
    """The modules that the worker found last, however long ago; none where the site does not want them listed."""
    if not provider.config.applications.find_modules:
        return ()
    return _lines(Cache(provider.store, KIND).get("", provider.now(), stale=True) or "")


@lru_cache(maxsize=2)
def _lines(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()
