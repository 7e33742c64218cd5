"""The routes of WebSockets: a thread of gunicorn checks the handshake and hands the socket over to the event loop.

UCloud opens ``/ucloud/jobs.provider.<id>/websocket`` for logs, browsers ``/ucloud/<id>/websocket`` for shells; both
calls are answered on both paths (contract: route table, "two traps").
"""

import asyncio
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, request
from wsproto.utilities import generate_accept_token

from ucloud_slurm.errors import Forbidden, Refused, TooMany
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.web import errors
from ucloud_slurm.web.live.follow import LogStreams
from ucloud_slurm.web.live.hub import Hub
from ucloud_slurm.web.live.shell import ShellCalls
from ucloud_slurm.web.live.websocket import PING_SECONDS, WebSocketClosedError, WebSocketConnection

FOLLOW = "sockets.follow"
MOST_CONNECTIONS = 2000  # of one process
AUTHENTICATION_SECONDS = 30.0  # a connection without a valid token or session for so long is aborted


def blueprint(hub: Hub) -> Blueprint:
    """The two paths."""
    provider = hub.provider
    sockets = Blueprint("sockets", __name__)
    name = provider.config.provider.id

    @sockets.get(f"/ucloud/jobs.provider.{name}/websocket", endpoint="follow", websocket=True)
    @sockets.get(f"/ucloud/{name}/websocket", endpoint="shell", websocket=True)
    def upgrade() -> Response:
        key = request.headers.get("Sec-WebSocket-Key", "")
        if request.headers.get("Upgrade", "").lower() != "websocket" or not key:
            return errors.error(426, "A WebSocket is opened here.")
        if request.headers.get("Sec-WebSocket-Version") != "13":
            return Response(status=426, headers={"Sec-WebSocket-Version": "13"})
        _check_origin(provider, request.headers.get("Origin"))
        if provider.era.bearer_in_handshake and (request.endpoint == FOLLOW or "Authorization" in request.headers):
            provider.tokens.verify(request.headers.get("Authorization"), provider.now())
        if hub.connections >= MOST_CONNECTIONS:
            raise TooMany("The provider has as many connections as it can hold; please try again later.")
        server_socket = request.environ.get("gunicorn.socket") or request.environ.get("werkzeug.socket")
        if server_socket is None:
            raise Refused("This server cannot hold a WebSocket open.")
        username = provider.era.username(request.headers.get("UCloud-Username"))
        known = provider.era.bearer_in_handshake and "Authorization" in request.headers
        if known:
            username = provider.era.hinted(request.args.get("usernameHint")) or username
        sock, other = take(server_socket)
        hub.start(lambda: _serve(hub, sock, _handshake(key), username, known=known))
        response = Response(status=101)
        response.call_on_close(other.close)
        return response

    return sockets


def take(server_socket: Any) -> tuple[socket.socket, socket.socket]:
    """Takes a connection away from the server that accepted it.

    The descriptor of the server's socket is replaced by one end of a socket pair, to which the server may write and
    which it may close.

    :returns: the connection, and the other end of the pair
    """
    sock = socket.socket(fileno=os.dup(server_socket.fileno()))
    one, other = socket.socketpair()
    with one:
        os.dup2(one.fileno(), server_socket.fileno(), inheritable=False)
    return sock, other


def _handshake(key: str) -> bytes:
    accept = generate_accept_token(key.encode("latin-1")).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


def _check_origin(provider: Provider, origin: str | None) -> None:
    """Refuses browsers that are on a page of another site than UCloud; programs send no origin.

    :raises Forbidden: the origin is not known
    """
    known = (provider.config.ucloud.url, provider.config.provider.url, *provider.config.ucloud.origins)
    if origin is not None and _origin(origin) not in {_origin(url) for url in known}:
        raise Forbidden("This page may not open connections to the provider (see ucloud.origins).")


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname or "", port or {"http": 80, "https": 443}.get(parts.scheme)


async def _serve(hub: Hub, sock: socket.socket, handshake: bytes, username: str | None, *, known: bool) -> None:
    connection = await WebSocketConnection.accept(sock, handshake, username)
    connection.authenticated = connection.log_only = known
    following, shells = LogStreams(hub, connection), ShellCalls(hub, connection)
    hub.connections += 1
    others = (hub.spawn(_ping(connection)), hub.spawn(_abort_unless_authenticated(connection)))
    name = hub.provider.config.provider.id
    calls = {f"jobs.provider.{name}.follow": following.call, f"jobs.compute.{name}.shell.open": shells.call}
    try:
        async for frame in connection.frames():
            answer = calls.get(frame.call)
            if answer is None:
                await connection.response(frame.stream_id, 404, {})
            else:
                async with connection.answering(frame.stream_id):
                    await answer(frame)
    except WebSocketClosedError:
        pass
    finally:
        hub.connections -= 1
        for other in others:
            other.cancel()
        following.close()
        shells.close()
        await connection.close()


async def _abort_unless_authenticated(connection: WebSocketConnection) -> None:
    await asyncio.sleep(AUTHENTICATION_SECONDS)
    if not connection.authenticated:
        connection.abort()


async def _ping(connection: WebSocketConnection) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        try:
            await connection.ping()
        except WebSocketClosedError:
            return
