"""The table of the configuration file about how UCloud presents this provider."""

from dataclasses import dataclass, fields
from pathlib import Path

from ucloud_slurm.config.types import Section, key
from ucloud_slurm.config.urls import Url
from ucloud_slurm.system.pictures import Picture, read_picture

_LINE = r"^[^\x00-\x1f\x7f]+$"


@dataclass(frozen=True, kw_only=True)
class BrandingSection(Section):
    """How today's UCloud presents this provider in its list of providers."""

    title: str | None = key(
        default=None,
        example="Example Cluster",
        max_length=100,
        pattern=_LINE,
        description="The provider's name. Left out: UCloud shows the id, and none of the following.",
    )
    short_title: str | None = key(
        default=None,
        example="Example",
        max_length=30,
        pattern=_LINE,
        description="Its name where there is little room; left out: title.",
    )
    short_description: str = key(default="", max_length=300, description="One or two sentences for the list of providers.")
    description: str = key(
        default="", max_length=20_000, description="What the provider's own page says, in Markdown; links stand here, too."
    )
    url: Url | None = key(
        default=None,
        example="https://www.example.org/hpc",
        description="The provider's own website, to which a button of its page leads.",
    )
    logo: Path | None = key(
        default=None,
        example="/etc/ucloud-slurm/logo.png",
        description="File with a PNG, JPEG, GIF or WebP picture of at most 512 KiB.",
    )

    def __post_init__(self) -> None:
        given = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        if self.title is None and given:
            raise ValueError(f"title is needed with {given[0]}")

    def picture(self) -> Picture | None:
        """Reads the logo; None where none is configured.

        :raises Misconfigured: the file cannot be read, or is no such picture
        """
        return None if self.logo is None else read_picture("branding.logo", self.logo)
