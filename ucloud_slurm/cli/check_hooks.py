"""``check``: the programs of the site, and the daemon that runs them."""

import pwd
import socket
from collections.abc import Iterator
from contextlib import suppress

from ucloud_slurm.cli.output import Line
from ucloud_slurm.config import Config
from ucloud_slurm.system.ownership import distrust

ACCOUNT = "ucloud-slurm-hooks"  # of ucloud-slurm-hookd.service
ANSWER_SECONDS = 5.0


def hooks(config: Config) -> Iterator[Line]:
    """Whether each program can be trusted, and each socket answers; nothing where there are no hooks."""
    owners = {0}
    with suppress(KeyError):
        owners.add(pwd.getpwnam(ACCOUNT).pw_uid)
    for hook in config.hooks:
        found = distrust(hook.program, lambda uid: uid in owners, f"root or {ACCOUNT}")
        if found is not None:
            yield "failed", f"{hook.program} is not run: {found.why}; {found.repair}"
    for path in sorted({hook.socket for hook in config.hooks}):
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(str(path))
        except OSError as error:
            start = "systemctl enable --now ucloud-slurm-hookd.socket ucloud-slurm-hooks.timer"
            yield "failed", f"nobody runs programs of the site at {path} ({error.strerror}): {start}"
        else:
            served = [event for hook in config.hooks if hook.socket == path for event in hook.events]
            yield "ok", f"{path} answers, for {', '.join(served)}"
