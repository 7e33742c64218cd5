"""How UCloud presents this provider: its names, its texts and its logo, for a UCloud that asks for them.

The logo is loaded by the browsers of everybody, so that its route needs no token. It is read once, at the start: UCloud
asks every ten seconds, and no disk delays the answer. Its address changes with its content, so that browsers may keep it.
"""

import logging
from collections.abc import Callable

from flask import Response, request

from ucloud_slurm.errors import Misconfigured, NotFound
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system.pictures import Picture
from ucloud_slurm.ucloud.responses import Branding
from ucloud_slurm.web.routes import CallRegistry

log = logging.getLogger(__name__)

IMAGE = "provider/branding/image"
# Should a browser ever show it as a page: nothing in it is run or loaded.
HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


def declare(provider: Provider, calls: CallRegistry) -> None:
    """Declares the call and the route of the logo. Without a title there are none, and UCloud shows the id."""
    branding, identity = provider.config.branding, provider.config.provider
    if branding.title is None or not provider.era.has_branding:
        return
    logo = _logo(branding.picture)
    answer = Branding(
        id=identity.id,
        title=branding.title,
        short_title=branding.short_title or branding.title,
        short_description=branding.short_description,
        description=branding.description,
        url=branding.url or "",
        logo=None if logo is None else f"{identity.url}/ucloud/{identity.id}/{IMAGE}?name={logo.name}",
    )

    @calls.call("GET", "provider/branding/retrieveInfo", gives=Branding)
    def retrieve_branding() -> Branding:
        """Say how the provider is presented."""
        return answer

    if logo is not None:
        _serve(logo, calls)


def _logo(read: Callable[[], Picture | None]) -> Picture | None:
    try:
        return read()
    except Misconfigured as error:
        for sentence in error.sentences:
            log.error("%s UCloud gets no logo until the service has started again.", sentence)
        return None


def _serve(logo: Picture, calls: CallRegistry) -> None:
    def show() -> Response:
        if request.args.get("name") != logo.name:
            raise NotFound("There is no such picture.")
        return Response(logo.content, mimetype=logo.type, headers=HEADERS)

    calls.page(IMAGE, show)
