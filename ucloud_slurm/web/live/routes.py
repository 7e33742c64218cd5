"""The routes of WebSockets: a thread of gunicorn checks the handshake and hands the socket over to the event loop.

UCloud opens ``/ucloud/jobs.provider.<id>/websocket`` for logs, browsers ``/ucloud/<id>/websocket`` for shells; both
calls are answered on both paths (contract: route table, "two traps").
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, request
from wsproto.utilities import generate_accept_token

from ucloud_slurm.errors import Forbidden, Refused, TooMany
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system.request_id import name_user
from ucloud_slurm.web import errors
from ucloud_slurm.web.live.admission import common_address
from ucloud_slurm.web.live.entrance import FULL, Visit
from ucloud_slurm.web.live.hub import Hub
from ucloud_slurm.web.live.shell import ShellCalls
from ucloud_slurm.web.live.streams import LogStreams
from ucloud_slurm.web.live.websocket import LARGEST_FRAME_BYTES, PING_SECONDS, WebSocketClosedError, WebSocketConnection

FOLLOW = "sockets.follow"
IDENTIFY_SECONDS = 10.0  # a connection without a valid token or session for so long is aborted
IDLE_SECONDS = 600.0  # a connection without a stream for so long is closed
LINGER_SECONDS = 6 * 3600.0  # and one whose log has ended: with its end the viewer's whole page would begin anew
FIRST_BYTES = 64 * 1024  # before a valid token or session; a shell's first frame has a few hundred


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
        server_socket = request.environ.get("gunicorn.socket") or request.environ.get("werkzeug.socket")
        if server_socket is None:
            raise Refused("This server cannot hold a WebSocket open.")
        username = provider.era.username(request.headers.get("UCloud-Username"))
        known = provider.era.bearer_in_handshake and "Authorization" in request.headers
        if known:
            username = provider.era.hinted(request.args.get("usernameHint")) or username
            name_user(username)
            visit = hub.entrance().admit_known(username)
        else:
            visit = hub.entrance().admit(_address(server_socket, request.headers.get("X-Real-IP")))
        try:
            other = _hand_over(hub, server_socket, visit, _handshake(key), username)
        except BaseException:
            visit.leave()
            raise
        response = Response(status=101)
        response.call_on_close(other.close)
        return response

    return sockets


def take(server_socket: Any) -> tuple[socket.socket, socket.socket]:
    """Takes a connection away from the server that accepted it.

    The descriptor of the server's socket is replaced by one end of a socket pair, to which the server may write and
    which it may close.

    :raises OSError: there is no descriptor left; nothing was changed
    :returns: the connection, and the other end of the pair
    """
    sock = socket.socket(fileno=os.dup(server_socket.fileno()))
    try:
        one, other = socket.socketpair()
        with one:
            os.dup2(one.fileno(), server_socket.fileno(), inheritable=False)
    except OSError:
        sock.close()
        raise
    return sock, other


def _hand_over(hub: Hub, server_socket: Any, visit: Visit, handshake: bytes, username: str | None) -> socket.socket:
    """Moves a connection to the event loop.

    :raises TooMany: the process has no descriptors left
    :returns: what the server's thread closes in the end
    """
    try:
        hub.begin()
        sock, other = take(server_socket)
    except OSError as error:
        hub.entrance().complain(f"a WebSocket is refused ({error.strerror}); raise LimitNOFILE of the service")
        raise TooMany(FULL) from None
    hub.start(lambda: _serve(hub, sock, handshake, username, visit))
    return other


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
    if origin is not None and _origin(origin) not in {_origin(url) for url in known} - {None}:
        raise Forbidden("This page may not open connections to the provider (see ucloud.origins).")


def _origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return parts.scheme, parts.hostname or "", port or {"http": 80, "https": 443}.get(parts.scheme)


def _address(server_socket: Any, header: str | None) -> str | None:
    """The address that a stranger comes from, as the proxy sends it through a local socket; nobody else is believed."""
    return common_address(header) if server_socket.family == socket.AF_UNIX else None


async def _serve(hub: Hub, sock: socket.socket, handshake: bytes, username: str | None, visit: Visit) -> None:
    era = hub.provider.era
    try:
        if visit.dismissed:
            sock.close()
            return
        # Where frames show the token, the first one holds a whole Job beside it.
        first_bytes = FIRST_BYTES if era.bearer_in_handshake else FIRST_BYTES + LARGEST_FRAME_BYTES
        connection = await WebSocketConnection.accept(sock, handshake, username, visit, first_bytes)
        loop = asyncio.get_running_loop()
        visit.on_dismissal(lambda: loop.call_soon_threadsafe(connection.abort))
        connection.log_only = visit.stranger is None
        await _answer(hub, connection)
    finally:
        visit.leave()


async def _answer(hub: Hub, connection: WebSocketConnection) -> None:
    following, shells = LogStreams(hub, connection), ShellCalls(hub, connection)
    others = (
        hub.spawn(_ping(connection)),
        hub.spawn(_abort_strangers(connection)),
        hub.spawn(_close_idle(connection, lambda: following.has_streams or shells.has_shell)),
    )
    name = hub.provider.config.provider.id
    calls = {f"jobs.provider.{name}.follow": following.call, f"jobs.compute.{name}.shell.open": shells.call}
    try:
        async for frame in connection.frames():
            answer = calls.get(frame.call)
            if answer is None:
                await connection.response(frame.stream_id, 404, {})
            else:
                with connection.visit.examined():
                    async with connection.answering(frame.stream_id):
                        await answer(frame)
    except WebSocketClosedError:
        pass
    finally:
        for other in others:
            other.cancel()
        following.close()
        shells.close()
        await connection.close()


async def _abort_strangers(connection: WebSocketConnection) -> None:
    await asyncio.sleep(IDENTIFY_SECONDS)
    if connection.visit.stranger is not None:
        connection.abort()


async def _close_idle(connection: WebSocketConnection, is_used: Callable[[], bool]) -> None:
    idle = 0.0
    while idle < (LINGER_SECONDS if connection.visit.lingers else IDLE_SECONDS):
        used = is_used()
        await asyncio.sleep(IDLE_SECONDS)
        idle = 0.0 if used or is_used() else idle + IDLE_SECONDS
    connection.finish()
    await asyncio.sleep(IDENTIFY_SECONDS)
    connection.abort()


async def _ping(connection: WebSocketConnection) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        try:
            await connection.ping()
        except WebSocketClosedError:
            return
