"""How people and projects come to a provider and leave it (contract: integration module calls, init)."""

from typing import Any
from urllib.parse import urljoin

from ucloud_slurm.sandbox.core.errors import CoreError
from ucloud_slurm.sandbox.core.parts import CoreParts


class CorePeople(CoreParts):
    """The user-facing calls of Core about connections. Used as :class:`SimulatedCore`."""

    def connect_user(self, username: str) -> str:
        """Connect a user with the provider, as the button of that name does.

        :return: where the user's browser is sent, a whole URL
        :raises CoreError: 400 when the provider's manifest does not say that it can be connected with, and
            502 when it refuses the user
        """
        if not self._connects():
            raise CoreError(400, "Connection is not supported by this provider")
        call = f"{self.provider}.im.connect"
        try:
            data = self._calls.plain(call, {"username": username})
        except CoreError as error:
            raise CoreError(502, f"Connection has failed ({error.why})") from error
        target = data.get("redirectTo") if isinstance(data, dict) else None
        if not isinstance(target, str):
            self._complain(f"{call}: the answer has no redirectTo")
            raise CoreError(502, "Invalid response from provider")
        return urljoin(f"{self._calls.url}/", target)

    def unlink(self, username: str) -> None:
        """Give a user's connection up and tell the provider; 2022 only.

        The connection is gone unless the provider is away: a refusal does not keep it.

        :raises CoreError: what the provider answered; 404 in an era without it
        """
        if not self.era.has_unlinked:
            raise CoreError(404, "Not found")
        try:
            self._calls.plain(f"{self.provider}.im.unlinked", {"username": username}, unit=True)
        except CoreError as error:
            if error.status < 500:
                self.directory.disconnect(username)
            raise
        self.directory.disconnect(username)

    def init_resource(self, owner: str, project: str | None = None) -> None:
        """Let the provider know that somebody is about to use it; 2022 only.

        Core itself does so when somebody opens a workspace, and does not mind a refusal.

        :param owner: the person, who is also the acting user
        :param project: the workspace; None for the person's own
        :raises CoreError: what the provider answered; 404 in an era without it
        """
        if not self.era.has_resource_init:
            raise CoreError(404, "Not found")
        principal = {"createdBy": owner, "project": project}
        self._calls.for_user(f"jobs.provider.{self.provider}.init", {"principal": principal}, owner, unit=True)

    def _connects(self) -> bool:
        call = f"{self.provider}.im.retrieveManifest"
        try:
            data: Any = self._calls.plain(call)
        except CoreError:
            return False
        enabled = data.get("enabled") if isinstance(data, dict) else None
        if not isinstance(enabled, bool):
            self._complain(f"{call}: enabled is neither true nor false")
        return enabled is True
