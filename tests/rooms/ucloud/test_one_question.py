"""One question to UCloud has one time limit, whatever steps it takes; what UCloud answers never stops who asks."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from pytest_mock import MockerFixture

from tests.conftest import Clock, World
from tests.sandbox.core import SimulatedCore
from tests.support.factories import application, job, word
from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, StorageFullError
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.ucloud import answers
from ucloud_slurm.ucloud.client import _expiry
from ucloud_slurm.ucloud.core import Core
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.pauses import OwnMemory

EXISTENCE, RETRIEVE = "providers.resources.checkExistence", "jobs.control.retrieve"
TODAY = pytest.mark.parametrize("era", ["today"], scope="session")
PATIENCE = 60.0


class SlowCore(requests.Session):
    """A UCloud each of whose answers takes 0.4 s, or all the time that there is, and which takes no access token for valid."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self.seconds = 0.0
        self.given: list[float] = []

    def now(self) -> float:
        return self._began + self.seconds

    def request(self, method: Any, url: Any, *_: Any, **more: Any) -> requests.Response:
        total = more["timeout"].total
        self.given.append(total)
        self.seconds += min(0.4, total)
        if total < 0.4:
            raise requests.ReadTimeout
        is_renewal = "refresh" in str(url)
        body = {"responses": [{"accessToken": f"token{len(self.given)}"}]} if is_renewal else {"why": "Unauthorized"}
        answer = requests.Response()
        answer.status_code, answer.raw = 200 if is_renewal else 401, _Body(json.dumps(body).encode())
        return answer


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def read1(self, *_: Any, **__: Any) -> bytes:
        content, self._content = self._content, b""
        return content

    def close(self) -> None:
        """Nothing is open."""

    release_conn = close


def test_renewals_and_repeats_take_what_is_left_of_the_time_of_the_question(mocker: MockerFixture) -> None:
    slow = SlowCore()
    mocker.patch("ucloud_slurm.ucloud.client.requests.Session", return_value=slow)
    mocker.patch("time.monotonic", slow.now)
    core = Core("http://core.example", lambda: "secret", now=lambda: 0.0)
    with pytest.raises(CoreUnavailableError):
        core.existing(["1"], timeout=1.0)
    assert slow.given == pytest.approx([1.0, 0.6, 0.2]), "the token, the question, and another token"
    assert slow.seconds == pytest.approx(1.0)
    with pytest.raises(CoreUnavailableError, match="in time"):
        core.existing(["1"], timeout=0.0)
    assert len(slow.given) == 3


@pytest.fixture
def core_client(core: SimulatedCore, clock: Clock) -> Iterator[Core]:
    client = Core(core.url, lambda: core.refresh_token, now=clock)
    yield client
    client.close()


@TODAY
def test_whether_a_refusal_is_about_the_token_is_part_of_the_question(core: SimulatedCore, core_client: Core) -> None:
    core.faults.answer(RETRIEVE, 403, {"why": "Not yours"})
    core.faults.answer(EXISTENCE, 503, times=3)
    with pytest.raises(CoreUnavailableError):
        core_client.job("1", timeout=30.0)
    assert [exchange.call for exchange in core.exchanges].count(EXISTENCE) == 1, "who may not wait asks once"


def unresolved() -> Job:
    """A job of whose application UCloud sends the name only."""
    found = job("1", app=application(word("false")))
    return found.model_copy(update={"status": found.status.model_copy(update={"resolved_application": None})})


@TODAY
def test_a_question_that_never_comes_back_keeps_no_request(world: World, mocker: MockerFixture) -> None:
    over = threading.Event()

    def resolve(*_: Any, **__: Any) -> Any:  # as a name service, or one byte after the other
        over.wait(PATIENCE)
        raise CoreUnavailableError("much later")

    mocker.patch.object(Core, "job", resolve)
    with pytest.raises(CoreUnavailableError, match="did not answer in time"):
        Lookup(world.provider, time.monotonic() + 0.2).application(unresolved())
    over.set()


class FullMemory(OwnMemory):
    """The memory of a provider whose disk is full."""

    def keep(self, key: str, text: str) -> None:
        raise StorageFullError("full")


@TODAY
def test_a_fresh_token_is_used_although_it_cannot_be_stored(core: SimulatedCore, clock: Clock) -> None:
    client = Core(core.url, lambda: core.refresh_token, now=clock, memory=FullMemory())
    assert client.existing(["1"]) == [False]
    client.close()


@pytest.mark.parametrize(("status", "error"), [(200, CoreUnavailableError), (400, CoreRefusedError)])
def test_an_answer_that_is_nested_too_deeply_is_no_json(status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        answers.read(status, b"[" * 100_000)


@pytest.mark.parametrize("expires", ["1" + "0" * 400, "NaN", "null", "[" * 100_000, '"soon"'])
def test_a_token_without_a_time_that_can_be_read_is_renewed(expires: str) -> None:
    claims = base64.urlsafe_b64encode(f'{{"exp": {expires}}}'.encode()).decode()
    assert not _expiry(f"a.{claims}.b") > 0


@TODAY
def test_a_list_that_comes_back_to_a_page_ends(core: SimulatedCore, core_client: Core) -> None:
    for after in ("a", "b") * 3:
        core.faults.answer("jobs.control.browse", 200, {"items": [{}], "next": after})
    with pytest.raises(CoreUnavailableError, match="no end"):
        list(core_client.jobs("RUNNING"))
    assert [exchange.call for exchange in core.exchanges].count("jobs.control.browse") == 3
