"""A request that nobody foresaw is refused in words: no failure of ours, nobody waits, no job breaks the worker.

Bodies are made from the description at /openapi.json, both such as it allows and such as it forbids, and from
real messages; then pieces are exchanged and bytes are changed. The same requests come every time; ``HUNT=1`` sends ten
thousand of them.
"""

import copy
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote_from_bytes

import jsonschema_rs
import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from tests.conftest import Open
from tests.sandbox.core import SimulatedCore
from tests.support.factories import PRODUCT, application, job_data, parameter, text, var, word
from tests.support.model import Model
from ucloud_slurm.app import create_app
from ucloud_slurm.errors import Refused
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.ucloud.wire import decode
from ucloud_slurm.web import calls
from ucloud_slurm.worker.run import run_once

SEED = 20211004
HUNT = bool(os.environ.get("HUNT"))
REQUESTS = 10_000 if HUNT else 4_000
SMALL = 200 if HUNT else 80  # requests for each call that is not a bulk
LEAST_DONE = SMALL // 16  # of those for each call that are done
GENERATED = 8 if HUNT else 2  # bodies of each type that are allowed, and as many that are not
SLOWEST = 3.0  # seconds
BASE = "/ucloud/example/"

NEVER_DONE = {
    "POST integration/connect",  # where all jobs run as one account nobody has to connect, and all are told so
    "POST tasks/pauseOrCancel",  # there are no tasks
}
NUMBERS: list[Any] = [0, -1, 1, 59, 60, 2**31, 2**63 - 1, -(2**63), 2**63, 10**400, -(10**400)]
TEXTS: list[Any] = ["", "x", "0", "9" * 20, "\0", "\ud800", "a\nb", "\u202e", "💥", "../../etc", "$(id)", "%n%s", "x" * 5000]
OTHERS: list[Any] = [None, True, 1.0, 1.5, 1e308, float("nan"), float("inf"), [], {}, [None], {"type": "x"}, {"job": 1}]
ODD = NUMBERS + TEXTS + OTHERS
PIECES = [
    b"",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"{",
    b"]",
    b'"',
    b",",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"1e999",
    b"-",
    b"NaN",
    b"null",
    b"[" * 300,
    b'{"a":' * 300,
    b"9" * 5000,
]


# -- what is described ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """A call of the description, with what checks its answers."""

    verb: str
    path: str
    body: str | None
    query: tuple[str, ...]
    good: jsonschema_rs.Validator | None
    bad: jsonschema_rs.Validator

    @property
    def name(self) -> str:
        return f"{self.verb} {self.path.removeprefix(BASE)}"

    @property
    def is_bulk(self) -> bool:
        return "BulkOf" in (self.body or "")


class Description:
    """What stands at /openapi.json."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def operations(self) -> list[Operation]:
        """Every call."""
        return [self._operation(path, verb, call) for path, verbs in self.data["paths"].items() for verb, call in verbs.items()]

    def _operation(self, path: str, verb: str, call: Any) -> Operation:
        answers = {status: self.validator(_type(answer)) for status, answer in call["responses"].items()}
        query = tuple(each["name"] for each in call["parameters"] if each.get("in") == "query")
        body = _type(call["requestBody"]) if "requestBody" in call else None
        return Operation(verb.upper(), path, body, query, answers.get("200"), answers["default"])

    def validator(self, type_: str) -> jsonschema_rs.Validator:
        """What says whether a message is of that type."""
        return jsonschema_rs.validator_for({"$ref": type_, "components": self.data["components"]})

    @cache  # noqa: B019  the calls share types; there is one description
    def bodies(self, type_: str, mode: GenerationMode) -> list[Any]:
        """Messages that the description allows, or forbids, about products of ours."""
        schemas = self.data["components"]["schemas"] | {"ProductReference": {"const": PRODUCT}}
        content = {"application/json": {"schema": {"$ref": type_}}}
        call = {"requestBody": {"required": True, "content": content}, "responses": {"default": {"description": ""}}}
        narrowed = self.data | {"paths": {"/": {"post": call}}, "components": {"schemas": schemas}}
        operation = schemathesis.openapi.from_dict(narrowed)["/"]["POST"]
        made: list[Any] = []

        @settings(
            max_examples=GENERATED,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def collect(case: Any) -> None:
            made.append(case.body)

        collect()
        return made


def _type(holder: Any) -> str:
    return str(holder["content"]["application/json"]["schema"]["$ref"])


# -- what is sent -----------------------------------------------------------------------------------------------


def jobs(number: int) -> list[Any]:
    """A plain job, and one with all there is."""
    rich = application(
        word("sh"),
        var("a", "b", prefixGlobal="--x"),
        applicationType="WEB",
        parameters=[parameter("a"), parameter("b", "integer", optional=True), parameter("c", "enumeration", optional=True)],
    )
    return [
        job_data(str(number), name="my job"),
        job_data(str(number + 1), app=rich, parameters={"a": text("1"), "b": {"type": "integer", "value": 2}}),
    ]


def real(operation: Operation, number: int) -> list[Any]:
    """Messages as UCloud writes them."""
    user = {"type": "user", "username": "u"}
    group = {"type": "project_group", "projectId": "p", "group": "g"}
    items: dict[str, dict[str, Any]] = {
        "POST jobs/updateAcl": {"added": [{"entity": user, "permissions": ["READ"]}], "deleted": [user, group]},
        "POST jobs/extend": {"requestedTime": {"hours": 1, "minutes": 0, "seconds": 0}},
        "POST jobs/interactiveSession": {"rank": 0, "sessionType": "SHELL"},
        "POST jobs/suspend": {},
    }
    more = items.get(operation.name)
    key = "resource" if operation.name == "POST jobs/updateAcl" else "job"
    if operation.is_bulk:
        return [{"items": [job if more is None else {key: job} | more]} for job in jobs(number)]
    return [
        {"username": "user"},
        {"principal": {"createdBy": "user", "project": None}},
        {"token": "t", "createdProvider": {"refreshToken": "r", "publicKey": "k"}},
        {"owner": {"createdBy": "user", "project": None}, "application": application(word("true"))},
    ]


Mode = tuple[Any, ...]


def places(data: Any, before: Mode = ()) -> Iterator[tuple[Mode, Any]]:
    """Every place of a message but the whole, and what stands there."""
    inside: Any = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inside:
        yield (*before, key), value
        yield from places(value, (*before, key))


def within(data: Any, place: Mode) -> Any:
    """What holds a place."""
    for key in place[:-1]:
        data = data[key]
    return data


def exchange(data: Any, place: Mode, value: Any) -> Any:
    """The same message with something else at a place."""
    data = copy.deepcopy(data)
    within(data, place)[place[-1]] = value
    return data


def exchanges(data: Any, chance: random.Random) -> Iterator[Any]:
    """The message with each of its values exchanged for each odd one, in any order.

    Half of them are for one of the same kind, numbers first: those are read to the end, and reckoned with.
    """
    found = list(places(data))
    alike = [(place, odd) for place, value in found for odd in _of_its_kind(value)]
    other = [(place, odd) for place, _ in found for odd in ODD]
    chance.shuffle(alike)
    chance.shuffle(other)
    alike.sort(key=lambda pair: not isinstance(pair[1], int))
    for one, two in zip(itertools.cycle(alike), itertools.cycle(other), strict=False):
        yield exchange(data, *one)
        yield exchange(data, *two)


def _of_its_kind(value: Any) -> list[Any]:
    if isinstance(value, str):
        return TEXTS
    return NUMBERS if isinstance(value, int) and not isinstance(value, bool) else [None]


def shuffle(data: Any, chance: random.Random) -> Any:
    """The same message with a piece doubled, taken away, renamed or put somewhere else."""
    found = list(places(data))
    if not found:
        return chance.choice(ODD)
    data = copy.deepcopy(data)
    place, _ = chance.choice(found)
    container, how = within(data, place), chance.randrange(4)
    if how == 0:
        del container[place[-1]]
    elif how == 1:
        container[place[-1]] = copy.deepcopy(chance.choice(found)[1])
    elif isinstance(container, list):
        container += copy.deepcopy(container)
    else:
        container[f"x{place[-1]}"] = container.pop(place[-1])
    return data


def renumber(data: Any, number: int) -> None:
    """Makes the jobs of a message new ones."""
    for _, value in [((), data), *places(data)]:
        if isinstance(value, dict) and "specification" in value and "id" in value:
            value["id"] = str(number)


def scramble(raw: bytes, chance: random.Random) -> bytes:
    """The same bytes, with something cut, doubled, changed or put in."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(raw) + 1)
        to = min(len(raw), at + chance.randint(0, 40))
        piece = chance.choice([raw[at:to] * 2, chance.randbytes(to - at), chance.choice(PIECES)])
        raw = raw[:at] + piece + raw[to:]
    return raw


def encoded(body: Any, chance: random.Random) -> bytes:
    """A message as JSON; what is bytes already stays so."""
    if isinstance(body, bytes):
        return body
    return json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")


def _letters(chance: random.Random) -> str:
    return "".join(chr(chance.choice([*range(32, 127), *range(160, 256)])) for _ in range(chance.randrange(12)))


# -- the promises -----------------------------------------------------------------------------------------------


class Fuzzer:
    """Sends requests, and holds every answer against the description."""

    def __init__(self, provider: Provider, token: str) -> None:
        self.client: FlaskClient = create_app(provider=provider).test_client()
        self.description = Description(self.client.get("/openapi.json").json or {})
        self.token, self.chance = token, random.Random(SEED)
        self.answers: Counter[tuple[str, int]] = Counter()
        self._numbers = itertools.count(10**6)

    @property
    def sent(self) -> int:
        """Requests so far."""
        return self.answers.total()

    def attack(self, operation: Operation, number: int, until: int) -> None:
        """Requests of one call."""
        chance, messages = self.chance, real(operation, number)
        bodies = [*messages, b"", b"Fix"]
        if operation.body is not None:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                bodies += self.description.bodies(operation.body, mode)
        for body in bodies:
            self.send(operation, encoded(body, chance))
        endless = [exchanges(message, chance) for message in messages]
        while self.sent < until:
            how = chance.random()
            body = next(chance.choice(endless)) if how < 0.7 else shuffle(chance.choice(bodies), chance)
            if operation.name in {"POST jobs", "POST jobs/terminate", "POST jobs/verify"} and chance.random() < 0.7:
                renumber(body, next(self._numbers))
            raw = encoded(body, chance)
            self.send(operation, scramble(raw, chance) if how > 0.85 else raw)

    def send(self, operation: Operation, raw: bytes) -> None:
        """One request."""
        chance = self.chance
        query = [f"{name}={quote_from_bytes(chance.randbytes(chance.randrange(9)))}" for name in operation.query]
        headers = [("Authorization", f"Bearer {self.token}")]
        if chance.random() < 0.3:
            headers.append(("UCloud-Username", _letters(chance)))
        begun = time.monotonic()
        answer = self.client.open(
            operation.path + chance.choice(["", "/"]),
            method=operation.verb,
            query_string=chance.choice(["", "&".join(query), "categoryId=example-compute", _letters(chance)]),
            data=raw,
            headers=headers,
            content_type=chance.choice(["application/json", "text/plain", "application/x-www-form-urlencoded", "x"]),
        )
        took = time.monotonic() - begun
        self.answers[operation.name, answer.status_code] += 1
        said = f"{operation.name} {raw!r}: {answer.status_code} {answer.text}"
        assert answer.status_code < 500, said
        assert answer.status_code != 449, said
        assert took < SLOWEST, said
        assert answer.mimetype == "application/json", said
        assert "Traceback" not in answer.text, said
        if answer.status_code == 200:
            assert operation.good is not None, said
            assert operation.good.is_valid(answer.json), said
        else:
            failure: Any = answer.json
            assert operation.bad.is_valid(failure), said
            assert failure["why"].strip(), said


def _checked(model: Model) -> None:
    """Lets the model take only what arguments and a script can be."""
    submit = model.submit

    def checked(submission: Submission, *more: Any) -> SlurmJobId:
        assert all("\0" not in str(value) and str(value).encode() for value in tuple(submission))
        return submit(submission, *more)

    model.submit = checked  # type: ignore[method-assign, assignment]


def test_random_requests_break_nothing(
    open_provider: Open, core: SimulatedCore, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    _checked(model)
    provider = open_provider(sessions={"url": "https://*.example.org"})
    fuzzer = Fuzzer(provider, core.tokens.core_token())
    operations = fuzzer.description.operations()
    create = next(operation for operation in operations if operation.name == "POST jobs")
    bulks = sum(operation.is_bulk for operation in operations)
    share = (REQUESTS - SMALL * (len(operations) - bulks)) // bulks
    for place, operation in enumerate(operations):
        number, until = 1000 * (place + 1), fuzzer.sent + (share if operation.is_bulk else SMALL)
        if operation.is_bulk and operation is not create:
            fuzzer.send(create, json.dumps({"items": jobs(number)}).encode())
        for job in model.jobs:
            model.begin_run(job)
        fuzzer.attack(operation, number, until if operation is not operations[-1] else REQUESTS)
    print(f"seed {SEED}:", sorted(fuzzer.answers.items()))  # noqa: T201  shown when something fails
    assert fuzzer.sent == REQUESTS
    for operation in operations:
        done, refused = (fuzzer.answers[operation.name, status] for status in (200, 400))
        assert operation.good is None or done >= LEAST_DONE or operation.name in NEVER_DONE, operation.name
        assert operation.body is None or refused >= 10, operation.name
    run_once(provider)
    assert "please report it" not in caplog.text


def test_what_the_description_allows_can_be_read_and_nothing_else(open_provider: Open) -> None:
    provider = open_provider()
    fuzzer, chance = Fuzzer(provider, ""), random.Random(SEED)
    types = {f"{each.verb} {each.path}": each.takes for each in calls.declare(provider).declared}
    counts: Counter[bool] = Counter()
    for operation in fuzzer.description.operations():
        if operation.body is None:
            continue
        described = fuzzer.description.validator(operation.body)
        for message in real(operation, 1):
            for body in itertools.islice(exchanges(message, chance), 250):
                if not _plain(body):
                    continue
                allowed = described.is_valid(body)
                assert _readable(types[operation.name], body) is allowed, (operation.name, body)
                counts[allowed] += 1
    assert min(counts[True], counts[False]) > 1000


def _plain(body: Any) -> bool:
    """Whether a message is without what JSON Schema has no words for: 1.0 as an integer, numbers beyond 64 bits."""
    odd = ("\ud800", 1.0, 1e308, float("inf"))
    return not any(
        value != value  # noqa: PLR0124  not a number
        or (isinstance(value, str | float) and value in odd)
        or (isinstance(value, int) and not -(2**63) <= value < 2**63)
        for _, value in places(body)
    )


def _readable(kind: Any, body: Any) -> bool:
    try:
        decode(kind, json.dumps(body).encode())
    except Refused:
        return False
    return True
