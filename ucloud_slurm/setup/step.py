"""What a step is, and what the steps depend on. Pure.

A step is a question (is it done?) and the commands that do it. Both are lines for sh(1), as root: a step can be pasted, and
``setup --apply`` runs the same lines. A question is answered with yes by the exit status 0. A command may be repeated: it
leaves what is there already.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from ucloud_slurm.config import Config

ACCOUNT = "ucloud-slurm"
_ESCAPED = r"\\\1"


class Host(NamedTuple):
    """This host, as far as the steps depend on it.

    :ivar config: where the configuration belongs
    :ivar drafts: folder of the files that are to be installed there; None: they are in their places
    :ivar shipped: folder with ``etc`` and ``systemd`` of this release
    :ivar program: the command ``ucloud-slurm``
    :ivar proxy_user: account of nginx's worker processes
    :ivar installer: command that installs a package of the distribution
    :ivar selinux: it is enforced here
    """

    config: Path
    drafts: Path | None
    shipped: Path
    program: Path
    proxy_user: str
    installer: str
    selinux: bool


class Chosen(NamedTuple):
    """Answers that are not in the configuration.

    :ivar account: Slurm account of the service's own user
    """

    account: str
    certificate: str
    certificate_key: str


class Step(NamedTuple):
    """One step.

    :ivar name: by which others need it
    :ivar look: exits with 0 if it is done
    :ivar command: does it; several lines are possible
    :ivar by_hand: it needs a decision, or is not on this host: --apply prints it
    :ivar needs: steps that are to be done before
    :ivar note: what to know about it
    """

    name: str
    title: str
    look: str
    command: str
    by_hand: bool = False
    needs: tuple[str, ...] = ()
    note: str = ""


def is_for_others(config: Config) -> bool:
    """Whether jobs run as other users than the service's own."""
    return config.users.mapping != "service" or config.users.service_user not in (None, ACCOUNT)


def substitute(words: Mapping[str, str]) -> str:
    """Arguments of sed(1) that replace these texts by others."""
    special = re.compile(r"([.*\[\]^$\\#])"), re.compile(r"([&\\#])")
    edits = (f"s#{special[0].sub(_ESCAPED, old)}#{special[1].sub(_ESCAPED, new)}#g" for old, new in words.items() if old != new)
    return " ".join(f"-e {quote(edit)}" for edit in edits) or "-e ''"


def listed(path: str) -> str:
    """A path in a list of them (systemd.syntax(7))."""
    return f'"{path}"' if " " in path else path


def quoted(path: Path) -> str:
    """A path as a word of the shell."""
    return quote(str(path))
