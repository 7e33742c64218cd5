"""How people and projects come to a provider and leave it (contract: integration module calls, init)."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from tests.sandbox.core.catalogue import CATEGORY
from tests.sandbox.core.checks import is_absolute
from tests.sandbox.core.complaints import Complaints
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.today.quotas import Accounts, Workspace


@dataclass(slots=True)
class Manifest:
    """What a provider says of itself.

    :ivar enabled: whether one has to connect, as the provider said last to a Core that keeps it; None while it did not
    """

    era: CoreEra
    calls: ProviderCalls
    complaints: Complaints
    enabled: bool | None = None

    def ask(self) -> bool | None:
        """Whether one has to connect, as the provider says now; None without an answer."""
        call = f"{self.calls.provider}.im.retrieveManifest"
        try:
            data: Any = self.calls.plain(call)
        except CoreError:
            return None
        enabled = data.get("enabled") if isinstance(data, dict) else None
        if not isinstance(enabled, bool):
            self.complaints.add(f"{call}: enabled is neither true nor false")
        if self.era.polls and isinstance(data, dict) and data.get("expireAfterMs") is not None:
            self.complaints.add(f"{call}: with expireAfterMs nobody is connected before that time is over")
        return enabled if isinstance(enabled, bool) else None


@dataclass(frozen=True, slots=True)
class Connections:
    """What users do to connect with the provider and to disconnect."""

    era: CoreEra
    calls: ProviderCalls
    manifest: Manifest
    directory: Directory
    accounts: Accounts
    complaints: Complaints
    end: Callable[[str], None]

    def connect_user(self, username: str) -> str:
        """Connect a user with the provider, as the button of that name does.

        :return: where the user's browser is sent, a whole URL; in an era that needs it to be one, what was said
        :raises CoreError: 400 when the provider's manifest does not say that it can be connected with, and 502
            when it refuses the user. In an era that polls 403 for somebody without a wallet, 400 for somebody who
            is connected, and what the provider answered
        """
        call = f"{self.calls.provider}.im.connect"
        if self.era.polls:
            self._may_connect(username)
            data = self.calls.plain(call, {"username": username})
        else:
            if self.manifest.ask() is not True:
                raise CoreError(400, "Connection is not supported by this provider")
            try:
                data = self.calls.plain(call, {"username": username})
            except CoreError as error:
                raise CoreError(502, f"Connection has failed ({error.why})") from error
        target = data.get("redirectTo") if isinstance(data, dict) else None
        if not isinstance(target, str):
            self.complaints.add(f"{call}: the answer has no redirectTo")
            raise CoreError(502, "Invalid response from provider")
        if self.era.needs_absolute:
            if not is_absolute(target):
                self.complaints.add(f"{call}: redirectTo is not an absolute address")
            return target
        return urljoin(f"{self.calls.url}/", target)

    def unlink(self, username: str) -> None:
        """Give a user's connection up and tell the provider; since 2022.

        The connection is gone unless the provider is away: a refusal does not keep it. In a later era the connection is
        gone first, and is made again whatever went wrong: that ends Core where the provider has made it meanwhile.

        :raises CoreError: what the provider answered; 404 in an era without it
        """
        if not self.era.has_unlinked:
            raise CoreError(404, "Not found")
        if self.era.unlink_restores:
            self.directory.disconnect(username)
        try:
            self.calls.plain(f"{self.calls.provider}.im.unlinked", {"username": username}, unit=True)
        except CoreError as error:
            if self.era.unlink_restores and username in self.directory.connected:
                self.complaints.add("Core has ended: a connection that it makes again was made by the provider meanwhile")
                self.end(f"unlink: the connection of {username} is there already")
            elif self.era.unlink_restores:
                self.directory.connect(username)
            if error.status < 500 and not self.era.unlink_restores:
                self.directory.disconnect(username)
            raise
        if not self.era.unlink_restores:
            self.directory.disconnect(username)

    def init_resource(self, owner: str, project: str | None = None) -> None:
        """Let the provider know that somebody is about to use it; 2022 only.

        Core itself does so when somebody opens a workspace, and ignores a refusal.

        :param owner: the person, who is also the acting user
        :param project: the workspace; None for the person's own
        :raises CoreError: what the provider answered; 404 in an era without it
        """
        if not self.era.has_resource_init:
            raise CoreError(404, "Not found")
        principal = {"createdBy": owner, "project": project}
        self.calls.for_user(self.calls.about_jobs("init"), {"principal": principal}, owner, unit=True)

    def upload_key(self, username: str, title: str, key: str) -> None:
        """Upload an SSH key; a 404 in an early era. What the provider says to it is in ``exchanges`` only."""
        self.era.require_today()
        keys = self.directory.add_key(username, title, key)
        call = f"ssh.provider.{self.calls.provider}.keyUploaded"
        with suppress(CoreError):
            self.calls.for_user(call, {"username": username, "allKeys": keys}, username)

    def is_connected(self, username: str) -> bool:
        """Whether Core of an era that polls takes a user for connected: everybody is, where nobody has to."""
        return self.manifest.enabled is False or username in self.directory.connected

    def _may_connect(self, username: str) -> None:
        self.directory.add_user(username)
        if self.manifest.enabled is None:
            self.manifest.enabled = self.manifest.ask()
        workspaces = [Workspace(username, None)]
        workspaces += [Workspace(None, project.id) for project in self.directory.projects(username)]
        if self.accounts.automatic:
            self.accounts.require(workspaces[0], CATEGORY)
        if not any(map(self.accounts.active, workspaces)):
            raise CoreError(403, "You cannot connect to this provider")
        if self.is_connected(username):
            raise CoreError(400, "You are connected with this provider already")
