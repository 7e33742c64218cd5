"""Files of the account of this process, without the runner."""

import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ucloud_slurm.errors import InvalidRequestError, Refused
from ucloud_slurm.system import ipc
from ucloud_slurm.system.lean import boot_clock
from ucloud_slurm.users import file_verbs
from ucloud_slurm.users.asked_files import Answer, AskedFiles
from ucloud_slurm.users.pump import Begin


class OwnFiles(AskedFiles):
    """See :class:`ucloud_slurm.users.files.FilesAs`. Long work is done by threads of this process, and ends with it."""

    def ask(self, verb: str, within: float, theirs: socket.socket | None, arguments: Mapping[str, Any]) -> Answer:
        deadline = boot_clock() + within
        message = {"form": ipc.FORM, "user": "", "verb": verb, "deadline": deadline, **arguments}
        try:
            given = [] if theirs is None else [theirs.fileno()]
            return file_verbs.answer(message, given, lambda: boot_clock() >= deadline, _launch)
        except InvalidRequestError as error:
            raise Refused(str(error)) from None
        finally:
            if theirs is not None:
                theirs.close()

    def uid(self) -> int:
        return os.geteuid()


def _launch(descriptor: int, begin: Begin) -> None:
    channel = socket.socket(fileno=os.dup(descriptor))
    try:
        rest = begin(channel)

        def work() -> None:
            with suppress(OSError):  # as in a process of its own: nobody reads any more
                rest()

        threading.Thread(target=work, name="files", daemon=True).start()
    except RuntimeError:  # no thread can be started: the reader sees that nothing came
        channel.close()
    except BaseException:
        channel.close()
        raise
