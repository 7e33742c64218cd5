"""The settings of the listener, passed on its command line: reading the configuration file would load pydantic."""

import json
import sys
from collections.abc import Sequence
from typing import NamedTuple, Self
from urllib.parse import urlsplit

PLACE = "/api/accounting/notifications"


class Settings(NamedTuple):
    """The settings. None of them is a secret.

    :ivar url: UCloud's address
    :ivar ca_file: PEM file of the certificate authorities; None for those of the system
    :ivar timeout: seconds that UCloud has for the handshake, and to receive a message
    :ivar provider: id of this provider
    :ivar database: path of the SQLite file
    :ivar config: path of the configuration file, for verbs of ``ucloud-slurm``
    :ivar proxy: URL of the proxy, without credentials
    :ivar proxy_credentials_file: path of the file with its credentials
    :ivar journal: the form of its lines
    :ivar standby: another host may work instead (``database.standby``)
    """

    url: str
    ca_file: str | None
    timeout: float
    provider: str
    database: str
    config: str
    proxy: str | None = None
    proxy_credentials_file: str | None = None
    journal: str = "text"
    standby: bool = False

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Self:
        """The settings in the command line that :meth:`command` has made."""
        return cls(**json.loads(arguments[0]))

    def command(self) -> list[str]:
        """The command line of the listener."""
        return [*_python("ucloud_slurm.listener"), json.dumps(self._asdict())]

    def verb(self, *words: str) -> list[str]:
        """The command line of a verb of ``ucloud-slurm``, with the same configuration."""
        return [*_python("ucloud_slurm"), "--config", self.config, *words]

    @property
    def secure(self) -> bool:
        """Whether the connection uses TLS."""
        return urlsplit(self.url).scheme == "https"

    @property
    def host(self) -> str:
        """UCloud's host, and its port if the URL names one."""
        return urlsplit(self.url).netloc

    @property
    def address(self) -> tuple[str, int]:
        """UCloud's host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if self.secure else 80)

    @property
    def target(self) -> str:
        """The path of the channel."""
        return urlsplit(self.url).path.rstrip("/") + PLACE


def _python(module: str) -> list[str]:
    # -P: no module is imported from the working directory.
    return [sys.executable, "-P", "-m", module]
