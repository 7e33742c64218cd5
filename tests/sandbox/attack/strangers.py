"""What strangers on the internet try; they reach nginx, and nothing else."""

import base64
import json
import secrets
import socket
from collections.abc import Callable
from typing import Any

import jwt
import requests

from tests.sandbox.attack.model import Actor, Attack, Outcome, attacks_of, held, verdict
from tests.sandbox.attack.people import BOB, FAILURES, quantile
from tests.sandbox.attack.stage import Stage

SOCKETS = 2000
ADDRESSES = 50
LOG_SOCKET = "/ucloud/jobs.provider.example/websocket"
SHELL_SOCKET = "/ucloud/example/websocket"
JOBS = "/ucloud/example/jobs"
HOST = "Host: hpc.example.org\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
# A shell needs no token: the identifier of its session, which comes later, authorizes it.
HANDSHAKE = f"GET {SHELL_SOCKET}?session=x HTTP/1.1\r\n{HOST}{UPGRADE}{KEY}\r\n"
LOGS = f"GET {LOG_SOCKET} HTTP/1.1\r\n{HOST}{UPGRADE}{KEY}\r\n"
HALF_FRAME = "\x81\xff\x00\x00\x00\x00\x00\x10\x00\x00abcd"  # of a megabyte
PING = "\x89\x80abcd"
BAD_CALL = f"GET {JOBS}/retrieveProducts HTTP/1.1\r\n{HOST}Authorization: Bearer {'x' * 700}\r\n\r\n"
# What each of many connections says at once, what each second then, and whether those that end are opened anew.
SWARMS: dict[str, tuple[str, str, str, bool]] = {
    "idle-connections": ("opens connections and says nothing", "", "", False),
    "slow-heads": ("sends the head of a request a byte a second", f"GET {JOBS} HTTP/1.1\r\nHost", "x", False),
    "slow-bodies": (
        "sends the body of a request a byte a second",
        f"POST {JOBS} HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\n",
        "x",
        False,
    ),
    "slow-chunks": (
        "sends a body without an end, a chunk a second",
        f"POST {JOBS} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n",
        "1\r\nx\r\n",
        False,
    ),
    "idle-websockets": ("opens WebSockets without a token and says nothing", HANDSHAKE, "", False),
    "half-handshakes": ("asks for WebSockets, a header a second", HANDSHAKE[:-2], "X-A: b\r\n", False),
    "half-frames": ("sends half a frame on each WebSocket, and a byte a second", HANDSHAKE + HALF_FRAME, "x", False),
    "pinging-websockets": ("keeps WebSockets alive with pings", HANDSHAKE, PING, False),
    "half-openings": ("asks for WebSockets in half of a handshake", HANDSHAKE.replace(KEY, ""), "", False),
    "flood-of-bad-tokens": ("calls with a wrong token, again and again", BAD_CALL, "", True),
    "flood-of-handshakes": ("asks for logs without a token, again and again", LOGS, "", True),
    "flood-of-websockets": ("opens WebSockets and closes them, again and again", HANDSHAKE, "", True),
}


def port(stage: Stage) -> int:
    """At which nginx listens."""
    return int(stage.living.url.rpartition(":")[2])


def target(stage: Stage) -> list[Any]:
    """Where strangers connect."""
    return ["127.0.0.1", port(stage)]


def swarm(stage: Stage, count: int, first: str, drip: str, *, again: bool) -> dict[str, Any]:
    """The argument of a swarm of strangers, from several addresses."""
    sources = [f"127.0.1.{number}" for number in range(1, ADDRESSES + 1)]
    return {"to": target(stage), "count": count, "sources": sources, "first": first, "drip": drip, "again": again}


def _many(name: str) -> Callable[[Stage], Outcome]:
    _, first, drip, again = SWARMS[name]

    def play(stage: Stage) -> Outcome:
        count = 100 if again else int(SOCKETS * stage.scale)
        with stage.stranger("swarm", swarm(stage, count, first, drip, again=again)) as attacker:
            calls = stage.calls(20)
        said = attacker.said
        statuses = ", ".join(f"{number} x {status}" for status, number in sorted(said["statuses"].items())) or "no answer"
        slowest = quantile([took for took, _ in calls], 1.0)
        got = f"{said['peak']} connections at a time, {statuses}; UCloud's calls took {slowest * 1000:.0f} ms at most"
        accepted = bool(again and said["statuses"].get("200"))
        return verdict(got, stage.slow(calls), "a wrong token was accepted" if accepted else "")

    play.name = name  # type: ignore[attr-defined]
    return play


def forged_tokens(stage: Stage) -> Outcome:
    """What resembles a token of UCloud's."""
    core = stage.core
    good = core.tokens.core_token()
    claims = jwt.decode(good, options={"verify_signature": False})
    head, body, signature = good.split(".")
    pem = core.public_key_pem

    def encoded(data: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    def hmac(secret: str) -> str:
        key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        signed = key.sign(f"{encoded({'alg': 'HS256'})}.{body}".encode(), secret.encode())
        return f"{encoded({'alg': 'HS256'})}.{body}.{base64.urlsafe_b64encode(signed).decode().rstrip('=')}"

    forged = {
        "empty": "",
        "no algorithm": f"{encoded({'typ': 'JWT'})}.{body}.",
        **{f"alg {alg}": f"{encoded({'alg': alg})}.{body}." for alg in ("none", "None", "NONE")},
        "our key as a secret": hmac(pem),
        "our key with CRLF as a secret": hmac(pem.replace("\n", "\r\n")),
        "our key in a line as a secret": hmac(core.public_key),
        "without a signature": f"{head}.{body}.",
        "another signature": f"{head}.{body}.{signature[::-1]}",
        "expired": core.tokens.core_token(exp=claims["iat"] - 3600),
        "without an end": core.tokens.core_token(exp=None),
        "from the future": core.tokens.core_token(iat=claims["iat"] + 7200, nbf=claims["iat"] + 7200),
        "of somebody else": core.tokens.core_token(iss="example.org"),
        "of a user": core.tokens.core_token(sub="Alice#1", role="USER", principalType="password"),
        "ours": core.tokens.provider_token(),
        "a megabyte": "x" * (1 << 20),
    }
    accepted = []
    for name, token in forged.items():
        for path in ("/jobs/retrieveProducts", "/jobs/retrieveUtilization"):
            status = _status(stage, "GET", f"/ucloud/example{path}", {"Authorization": f"Bearer {token}"})
            if status not in (400, 401, 403, 414, 429, 431, 494):
                accepted.append(f"{name} was answered with {status}")
    return verdict(f"{len(forged)} of them, each refused", *accepted)


def _status(stage: Stage, verb: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> int:
    with requests.Session() as http:
        http.trust_env = False
        answer = http.request(verb, stage.living.url + path, headers=headers, data=body, timeout=20, allow_redirects=False)
        return answer.status_code


def pages_of_operators(stage: Stage) -> Outcome:
    """What is for the operators of this host."""
    headers = {"X-Real-IP": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "Script-Name": "/x"}
    ways = [
        f"{before}/{page}"
        for page in ("metrics", "healthz", "readyz", "openapi.json", "_ucloud/authorize")
        for before in ("", "/ucloud/example/..", "/ucloud/example//..", "/ucloud/example/%2e%2e", "/ucloud/example/..;")
    ]
    seen = [way for way in ways if (_raw_status(stage, f"GET {way} HTTP/1.1\r\n{HOST}", headers) in ("200", "204"))]
    return verdict(f"{len(ways)} ways to five pages, none open", f"{', '.join(seen)} can be seen" if seen else "")


def _raw_status(stage: Stage, head: str, headers: dict[str, str] | None = None, body: bytes = b"") -> str:
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    answer = _raw(stage, f"{head}{more}Connection: close\r\n\r\n".encode("latin-1") + body)
    return answer[9:12].decode("latin-1")


def _raw(stage: Stage, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port(stage)), timeout=20) as one:
        one.settimeout(3)
        got = b""
        try:
            one.sendall(data)
            while piece := one.recv(65536):
                got += piece
        except OSError:
            return got
    return got


def two_requests_in_one(stage: Stage) -> Outcome:
    """Heads that nginx and the service could read in two ways."""
    hidden = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    plain = f"POST {JOBS} HTTP/1.1\r\n{HOST}Connection: close\r\n"
    ways = {
        "both lengths": f"{plain}Content-Length: {len(hidden)}\r\nTransfer-Encoding: chunked\r\n\r\n",
        "two lengths": f"{plain}Content-Length: 3\r\nContent-Length: {len(hidden)}\r\n\r\n",
        "\\x0bchunked": f"{plain}Content-Length: {len(hidden)}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
        "chunked, identity": f"{plain}Transfer-Encoding: chunked, identity\r\n\r\n",
        "a name with a space": f"{plain}Transfer-Encoding : chunked\r\nContent-Length: {len(hidden)}\r\n\r\n",
        "a folded line": f"{plain}Content-Length: {len(hidden)}\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n",
        "an underscore": f"{plain}Content-Length: {len(hidden)}\r\nTransfer_Encoding: chunked\r\n\r\n",
        "HTTP/0.9": "GET /metrics\r\n",
        "an upgrade to nothing": f"{plain}Upgrade: h2c\r\nContent-Length: {len(hidden)}\r\n\r\n",
    }
    answers = {name: _raw(stage, head.encode("latin-1") + hidden) for name, head in ways.items()}
    wrong = [name for name, answer in answers.items() if b"ucloud_slurm_" in answer or answer.count(b"HTTP/1.1 200")]
    return verdict(f"{len(ways)} forms, no second answer", f"{', '.join(wrong)} was answered twice" if wrong else "")


def strange_requests(stage: Stage) -> Outcome:
    """Methods, paths and heads that nobody sends."""
    token = {"Authorization": "Bearer x"}
    lines = [
        *(f"{verb} {JOBS}" for verb in ("HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "FOO", "get")),
        *(
            f"GET /ucloud/example/{path}"
            for path in ("", "/", "%00", "%0a", "%ff", "a" * 3000, "jobs;x", "jobs/%2e%2e/x", "\xe9")
        ),
        f"GET {LOG_SOCKET}?{'a=b&' * 800}",
        f"GET {SHELL_SOCKET}?session=%00%0a&usernameHint=%ff",
    ]
    got = {line[:30]: _raw_status(stage, f"{line} HTTP/1.1\r\n{HOST}", token) for line in lines}
    got |= {"200 headers": _raw_status(stage, f"GET {JOBS} HTTP/1.1\r\n{HOST}", {f"X-{n}": "y" for n in range(200)})}
    got |= {"a large header": _raw_status(stage, f"GET {JOBS} HTTP/1.1\r\n{HOST}", {"X": "y" * 100_000})}
    got |= {"gzip": _raw_status(stage, f"POST {JOBS} HTTP/1.1\r\n{HOST}Content-Encoding: gzip", {}, b"")}
    wrong = [f"{line!r} was answered with {status}" for line, status in got.items() if status[:1] in ("2", "5")]
    return verdict(f"{len(got)} of them, none with 2xx or 5xx", *wrong)


def guessed_links(stage: Stage) -> Outcome:
    """The pages with the code of somebody who connects, by guesses."""
    statuses = {_status(stage, "GET", f"/ucloud/example/link/{secrets.token_hex(6)}") for _ in range(60)}
    wrong = statuses - {404, 429, 503}
    return verdict(
        f"60 guesses, answered with {sorted(statuses)}", f"answered with {sorted(wrong)}" if wrong else "", stage.lives(5)
    )


def sessions_of_others(stage: Stage) -> Outcome:
    """A shell by a guessed, empty, used or hostile identifier."""
    opened = stage.core.open_session(stage.job(BOB), user=BOB) or {}
    got = []
    with stage.core.shell(opened, user=BOB):
        for identifier in (opened["sessionIdentifier"], "", "x", secrets.token_urlsafe(32), "' or 1=1 --", "a" * 5000):
            try:
                with stage.core.shell({**opened, "sessionIdentifier": identifier}, user=BOB):
                    got.append(identifier[:20])
            except FAILURES:
                continue
    return verdict("none opens a shell, and one that is used not a second time", f"{got} opened a shell" if got else "")


def slow_reader(stage: Stage) -> Outcome:
    """Asks for much and takes nothing of the answer."""
    head = f"GET /ucloud/example/link/done HTTP/1.1\r\n{HOST}\r\n" * 200
    with stage.stranger("swarm", swarm(stage, 50, head, "", again=False)):
        slow = stage.lives(10)
    return verdict("50 who send 200 requests and read none of the answers", slow) if slow else held("UCloud notices nothing")


ATTACKS: tuple[Attack, ...] = attacks_of(
    Actor.STRANGER,
    *((SWARMS[name][0], _many(name)) for name in SWARMS),
    ("calls with forged tokens", forged_tokens),
    ("looks for the pages of operators", pages_of_operators),
    ("hides a request in another", two_requests_in_one),
    ("sends requests that nobody sends", strange_requests),
    ("guesses the codes of those who connect", guessed_links),
    ("guesses the identifiers of shells", sessions_of_others),
    ("sends many requests and reads no answer", slow_reader),
    slow={
        "idle-connections",
        "slow-heads",
        "slow-bodies",
        "slow-chunks",
        "half-openings",
        "half-handshakes",
        "flood-of-handshakes",
        "flood-of-websockets",
        "strange-requests",
        "slow-reader",
    },
)
