"""A page that plays UCloud's web client for files, for a real browser: CORS, attachments and WebSockets are the browser's."""

from tests.sandbox.core.web_client.server import WebClient

__all__ = ["WebClient"]
