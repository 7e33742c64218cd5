"""UCloud's side of connecting people: its calls about who is connected, and the codes that it leads them to."""

from contextlib import suppress

from ucloud_slurm.errors import Forbidden, NotFound, Refused, one_line
from ucloud_slurm.provider import Provider
from ucloud_slurm.web.link_page import CONNECTED

LONGEST_NAME = 200  # characters


class Connecting:
    """What UCloud asks about one user at a time. Only with ``mapping = "table"`` does anybody have to connect."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def wanted(self) -> bool:
        """Whether people have to connect."""
        return self._provider.config.users.mapping == "table"

    def begin(self, username: str) -> str:
        """Makes a code for a user.

        :returns: the address of the page that shows it; of one that says so when they are connected here already
        :raises Refused: nobody has to connect
        """
        config = self._provider.config
        if config.users.mapping == "service":
            raise Refused("There is no need to connect: all jobs of this provider run as one account.")
        if not self.wanted:
            raise Refused("There is no need to connect: this provider knows by itself who you are on its cluster.")
        if not username or one_line(username, LONGEST_NAME) != username:
            raise Refused("username: not the name of a user")
        page = f"{config.provider.url.rstrip('/')}/ucloud/{config.provider.id}/link"
        provider = self._provider
        provider.connections.unconnected(username, provider.now())
        with suppress(Forbidden):
            provider.mapping.identity(username, None)
            return f"{page}/{CONNECTED}"
        return f"{page}/{provider.codes.new(username, provider.now())}"

    def check(self, username: str) -> None:
        """Whether a user is connected.

        :raises Refused: they would have to be
        """
        if self.wanted and self._provider.people.of(username) is None:
            raise Refused("Unknown user")

    def end(self, username: str) -> None:
        """A user gave the connection up at UCloud; whether there is one does not matter."""
        if self.wanted:
            provider = self._provider
            with provider.store.writing():
                provider.connections.unconnected(username, provider.now())
                with suppress(NotFound):
                    provider.people.remove(username, "UCloud", provider.now())
