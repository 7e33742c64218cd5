"""What the listener needs of the configuration: handed over on its command line, so that it need not read the file."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self
from urllib.parse import urlsplit

PLACE = "/api/accounting/notifications"


@dataclass(frozen=True, slots=True)
class Settings:
    """The values. None of them is a secret.

    :ivar url: UCloud's address
    :ivar ca_file: PEM file of the certificate authorities; None for the system's
    :ivar timeout: seconds that UCloud has for the handshake, and to take what it is sent
    :ivar provider: our id
    :ivar database: path of the SQLite file
    :ivar config: path of the configuration file, for the commands that are run
    """

    url: str
    ca_file: str | None
    timeout: float
    provider: str
    database: str
    config: str

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Self:
        """The values from the command line of :meth:`command`."""
        return cls(**json.loads(arguments[0]))

    def command(self) -> list[str]:
        """The command line of the listener."""
        return [*_python("ucloud_slurm.listener"), json.dumps(asdict(self))]

    def verb(self, *words: str) -> list[str]:
        """The command line of another verb of ours, with the same configuration."""
        return [*_python("ucloud_slurm"), "--config", self.config, *words]

    @property
    def secure(self) -> bool:
        """Whether UCloud is spoken to over TLS."""
        return urlsplit(self.url).scheme == "https"

    @property
    def host(self) -> str:
        """UCloud's host, with the port where one is named."""
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
    # -P: nothing is imported from the folder in which we happen to run.
    return [sys.executable, "-P", "-m", module]
