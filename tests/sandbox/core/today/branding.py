"""How a provider wants to be presented, read as today's Core and its web page read it (contract: ProviderBranding)."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.core.errors import ProtocolError
from tests.sandbox.core.today import bodies


@dataclass(frozen=True)
class Section:
    """A part of the provider's page."""

    description: str = ""
    image: str | None = None


@dataclass(frozen=True)
class ProductDescription:
    """What is said of a category."""

    category: str = ""
    short_description: str = ""
    section: Section = field(default_factory=Section)


@dataclass(frozen=True)
class Branding:
    """The whole answer."""

    id: str = ""
    title: str = ""
    short_title: str = ""
    short_description: str = ""
    description: str = ""
    url: str = ""
    logo: str | None = None
    sections: list[Section] = field(default_factory=list)
    product_description: list[ProductDescription] = field(default_factory=list)


def read(data: dict[str, Any], provider: str) -> Branding:
    """The answer; what Core would pass on and the page cannot show is an error here.

    :param provider: its id, by which Core keeps the answer
    :raises ProtocolError: naming what is wrong
    """
    unknown: list[str] = []
    found = bodies.decode(Branding, json.dumps(data).encode(), unknown.append)
    wrong = [f"{key} is a key that UCloud does not know" for key in unknown]
    # The page calls map() on both, and links to the page of the provider by its id.
    wrong += [f"{key} is not a list" for key in ("sections", "productDescription") if not isinstance(data.get(key), list)]
    wrong += [] if found.id == provider else ["id is not that of the provider"]
    wrong += [] if found.title else ["title is empty, so that the provider is not in the list"]
    if wrong:
        raise ProtocolError(wrong)
    return found
