"""What the worker class uses of gunicorn beyond its documented interface. A release that changes it is noticed here."""

import configparser
import inspect
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import errors, wsgi
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import IterUnreader
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import PollableMethodQueue, ThreadWorker
from packaging.requirements import Requirement

SIGNATURES: tuple[tuple[Callable[..., Any], tuple[str, ...]], ...] = (
    (ThreadWorker.init_process, ("self",)),
    (ThreadWorker.get_thread_pool, ("self",)),
    (ThreadWorker.set_accept_enabled, ("self", "enabled")),
    (ThreadWorker.accept, ("self", "listener")),
    (ThreadWorker.finish_request, ("self", "conn", "fs")),
    (ThreadWorker.murder_keepalived, ("self", "force")),
    (ThreadWorker.murder_pending, ("self",)),
    (ThreadWorker.handle, ("self", "conn")),
    (ThreadWorker.handle_request, ("self", "req", "conn")),
    (ThreadWorker.run, ("self",)),
    (ThreadWorker.wait_for_and_dispatch_events, ("self", "timeout")),
    (Worker.load_wsgi, ("self",)),
    (PollableMethodQueue.defer, ("self", "callback", "args")),
    (Request.__init__, ("self", "cfg", "unreader", "peer_addr", "req_number")),
    (Request.force_close, ("self",)),
    (IterUnreader.__init__, ("self", "iterable")),
    (IterUnreader.take_buffered, ("self",)),
    (ThreadWorker.handle_exit, ("self", "sig", "frame")),
)
# What run() of gunicorn does with what the class overrides: in which order, and nothing else of a connection.
CALLED_BY_RUN = (
    "self.set_accept_enabled(",
    "self.nr_conns < self.worker_connections",
    "self.wait_for_and_dispatch_events(",
    "self.murder_keepalived()",
    "self.murder_pending()",
    "self.murder_keepalived(force=True)",
    "self.tpool.shutdown(wait=False)",
)


def test_the_bytes_of_a_body_that_came_with_the_head_can_be_taken_and_the_others_are_on_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc")
        request = next(RequestParser(Config(), ours, ("", 0)))
        environ = wsgi.default_environ(request, ours, Config())
        theirs.sendall(b"def")
        assert environ["wsgi.input"].reader.unreader.take_buffered() == b"abc"
        assert (environ["gunicorn.socket"], ours.recv(10)) == (ours, b"def")


@pytest.mark.parametrize(("function", "names"), SIGNATURES, ids=lambda value: getattr(value, "__qualname__", ""))
def test_gunicorn_has_the_functions_that_the_worker_class_overrides_and_calls(
    function: Callable[..., Any], names: tuple[str, ...]
) -> None:
    found = tuple(inspect.signature(function).parameters)
    assert found == names, f"gunicorn's {function.__qualname__} takes {found}; ucloud_slurm/web/server expects {names}"


def test_gunicorn_runs_its_event_loop_as_the_worker_class_expects() -> None:
    source = inspect.getsource(ThreadWorker.run)
    missing = [text for text in CALLED_BY_RUN if text not in source]
    assert not missing, f"gunicorn's ThreadWorker.run has changed: it does not do {missing} any more"


def test_a_thread_of_gunicorn_uses_of_a_connection_what_ours_has() -> None:
    used = set(re.findall(r"\bconn\.(\w+)", inspect.getsource(ThreadWorker.handle_request)))
    assert used == {"sock", "client", "server"}, "gunicorn's handle_request uses more of a connection than Connection has"


def test_an_answer_begins_with_sendall() -> None:
    sent: list[bytes] = []

    class Socket:
        def sendall(self, data: bytes) -> None:
            sent.append(data)

    request = Request(Config(), IterUnreader([b"GET / HTTP/1.1\r\n\r\n"]), ("", 0), 1)
    response = wsgi.Response(request, Socket(), Config())
    response.start_response("200 OK", [("Content-Length", "1")])
    assert sent == []
    response.write(b"x")
    assert sent[0].startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_is_parsed_from_bytes_and_its_body_can_be_replaced() -> None:
    config = Config()
    head = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabcGET"
    request = Request(config, IterUnreader([head]), ("", 0), 1)
    assert (request.method, request.path, ("HOST", "x") in request.headers) == ("POST", "/a", True)
    assert isinstance(request.body, Body)
    assert isinstance(request.body.reader, LengthReader)
    assert (request.body.reader.length, request._expected_100_continue) == (3, True)
    assert request.unreader.take_buffered() == b"abcGET"
    request.body = body = object()
    assert wsgi.default_environ(request, None, config)["wsgi.input"] is body
    nothing = Request(config, IterUnreader([b"GET / HTTP/1.1\r\n\r\n"]), ("", 0), 1)
    assert nothing.body.reader.length == 0
    chunked = Request(config, IterUnreader([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"]), ("", 0), 1)
    assert isinstance(chunked.body.reader, ChunkedReader)


def test_errors_of_gunicorns_parser_are_of_one_kind() -> None:
    for name in ("LimitRequestLine", "LimitRequestHeaders", "UnsupportedTransferCoding", "ExpectationFailed", "InvalidHeader"):
        assert issubclass(getattr(errors, name), errors.ParseException)


def test_an_installation_gets_the_release_whose_internals_these_are() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    texts = setup["options"]["install_requires"].strip().splitlines()
    (wanted,) = [found for text in texts if (found := Requirement(text)).name == "gunicorn"]
    assert wanted.specifier.contains("27.0.1")
    assert not wanted.specifier.contains("28.0")
    assert not wanted.specifier.contains("26.9")
