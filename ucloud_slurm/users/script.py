"""``mapping = "script"``: a program of the site maps users; it reads and writes JSON."""

import json
import logging
import stat
from collections.abc import Callable
from pathlib import Path

from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.config import Config
from ucloud_slurm.errors import Forbidden, Misconfigured, one_line
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.store.people import People
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError, run
from ucloud_slurm.users.mapping import Identity, IdentityUnavailableError, eligible_user, slurm_account

log = logging.getLogger(__name__)

ANSWER_CHARACTERS = 64 * 1024
REFUSAL_SECONDS = 30.0  # that a refusal is kept at most: the user may start jobs soon after its cause is removed
MIN_ASK_SECONDS = 0.3  # with less time the program is not run; an answer that is kept counts all the same
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class Script:
    """Runs the program and caches its answers. See :class:`ucloud_slurm.users.mapping.Mapping`."""

    def __init__(self, config: Config, store: Store, now: Callable[[], float]) -> None:
        """Checks the program.

        :raises Misconfigured: it is not a program that only its owner can change
        """
        self._users = config.users
        self._people = People(store)
        self._cache = Cache(store, "mapping", config.users.script_cache)
        self._refusals = Cache(store, "mapping-refused", min(REFUSAL_SECONDS, config.users.script_cache))
        self._now = now
        self._program = config.users.script or Path("/")
        try:
            mode = self._program.stat().st_mode
        except OSError as error:
            raise Misconfigured([f"users.script: {self._program} cannot be used ({error.strerror})."]) from None
        if not stat.S_ISREG(mode) or mode & 0o022 or not mode & 0o111:
            raise Misconfigured(
                [f"users.script: {self._program} must be writable for its owner only; chmod 755 {self._program}"]
            )

    def identity(self, username: str, project: str | None, within: float | None = None) -> Identity:
        question = json.dumps({"version": 1, "user": username, "project": project})
        now = self._now()
        text = self._cache.get(question, now) or self._refusals.get(question, now)
        if text is None:
            limit = self._users.script_timeout
            if within is not None and within < min(limit, MIN_ASK_SECONDS):
                raise IdentityUnavailableError
            text = self._ask(question, limit if within is None else min(limit, within))
            answer = self._read(text)
            (self._refusals if "refused" in answer else self._cache).put(question, text, now)
        else:
            answer = self._read(text)
        if "refused" in answer:
            raise Forbidden(one_line(answer["refused"], 300))
        person = eligible_user(answer["user"], self._users)
        account = answer.get("account") or slurm_account(self._users, self._people, project, person.user)
        return Identity(person, account)

    def person(self, local_user: str) -> LocalUser:
        return eligible_user(local_user, self._users)

    def _ask(self, question: str, within: float) -> str:
        try:
            done = run([str(self._program)], ENVIRONMENT, within, question + "\n")
        except (CommandMissingError, CommandTimeoutError) as error:
            log.error("users.script: %s", error)
            raise IdentityUnavailableError from None
        if done.status != 0 or len(done.output) > ANSWER_CHARACTERS:
            log.error("users.script: ended with %d: %s", done.status, one_line(done.errors or done.output, 200))
            raise IdentityUnavailableError
        return done.output

    @staticmethod
    def _read(text: str) -> dict[str, str]:
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        texts = isinstance(answer, dict) and all(
            isinstance(answer.get(key), (str, type(None))) for key in ("user", "account", "refused")
        )
        if not texts or not (answer.get("user") or answer.get("refused")):
            log.error('users.script: printed something else than {"user": ...} or {"refused": ...}: %s', one_line(text, 200))
            raise IdentityUnavailableError
        return {key: value for key, value in answer.items() if value}
