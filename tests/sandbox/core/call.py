"""A call of the provider, as it came."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.sandbox.core.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the provider. How its body is read is in ``early.wire`` and in ``today.bodies``.

    :ivar complain: notes a sentence about a request that is answered all the same
    """

    name: str
    query: Mapping[str, str]
    body: bytes
    complain: Callable[[str], None]

    def asked(self, key: str) -> str:
        """A parameter of the query that must be there.

        :raises ProtocolError: 400
        """
        if not self.query.get(key):
            raise ProtocolError([f"the query has no {key}"])
        return self.query[key]
