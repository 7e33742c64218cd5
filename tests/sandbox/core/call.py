"""A call of the provider, as it came."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.sandbox.core.early import wire
from tests.sandbox.core.errors import ProtocolError
from tests.sandbox.core.today import bodies

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the provider.

    :ivar complain: notes a sentence about a request that is answered all the same
    """

    name: str
    query: Mapping[str, str]
    body: bytes
    complain: Callable[[str], None]

    def read(self, kind: type[wire.M]) -> wire.M:
        """The body, as a message of that kind, as it was declared.

        :raises ProtocolError: 400
        """
        data = wire.parse(self.body)
        message = wire.read(kind, data)
        for key in wire.unknown_keys(data, message):
            self.complain(f"{key} is a key that UCloud does not know")
        return message

    def decode(self, kind: type[T]) -> T:
        """The body, read field by field by its type.

        :raises ProtocolError: 400
        """
        return bodies.decode(kind, self.body, lambda key: self.complain(f"{key} is a key that UCloud does not know"))

    def asked(self, key: str) -> str:
        """A parameter of the query that must be there.

        :raises ProtocolError: 400
        """
        if not self.query.get(key):
            raise ProtocolError([f"the query has no {key}"])
        return self.query[key]
