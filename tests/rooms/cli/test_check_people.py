"""check compares all people with Slurm's associations, and tries their jobs as far as its time reaches."""

import re
import time
from collections.abc import Iterator, Sequence
from threading import Event
from typing import cast

import pytest

from tests.rooms.cli.conftest import Configure, connect
from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.cli import check_jobs, checking
from ucloud_slurm.cli.check_associations import associations
from ucloud_slurm.cli.check_jobs import jobs
from ucloud_slurm.cli.checking import Budget, findings
from ucloud_slurm.cli.output import Line
from ucloud_slurm.config import Config
from ucloud_slurm.errors import NotNow
from ucloud_slurm.slurm.records import NodeGroup, Partition, Submission
from ucloud_slurm.slurm.trial import Association, Trial
from ucloud_slurm.system.process import Start

CPU = {"cpu": Partition("cpu", up=True, minutes=60, nodes_max=None, groups=(NodeGroup(1, 4, 4000, ""),))}
REFUSED = "Invalid account or account/partition combination specified"


class FakeTrial:
    """A Slurm that refuses the jobs of some people, or without a key."""

    def __init__(self, refused: Sequence[str] = (), qos: str | None = None, found: Sequence[Association] = ()) -> None:
        self._refused = refused
        self._qos = qos
        self._found = found
        self.asked: list[tuple[str, str | None]] = []

    def refusal(self, submission: Submission, _as_user: Start, _within: float) -> str | None:
        self.asked.append((submission.user, submission.qos))
        if submission.user in self._refused:
            return REFUSED
        return "Invalid qos specification" if submission.qos is not None and submission.qos == self._qos else None

    def associations(self, _cluster: str, _within: float) -> list[Association]:
        return list(self._found)


def tried(config: Config, trial: FakeTrial, seconds: float = 30) -> list[Line]:
    return list(jobs(config, cast("Trial", trial), CPU, frozenset(), Budget(seconds)))


@pytest.fixture
def people(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Five people who are connected, and two products."""
    monkeypatch.setattr(check_jobs, "_sizes", lambda _config, _products: {})
    both = {"category": "example-compute", "partition": "cpu"}
    products = [both | {"id": name, "qos": qos} for name, qos in (("one", "a"), ("two", "b"))]
    config = configure("table", products=products)
    connect(config, 1, 2, 3, 4, 5)
    return config


def test_one_person_tries_all_products_and_each_of_the_others_one(people: Config) -> None:
    trial = FakeTrial()
    assert tried(people, trial) == [("ok", "Slurm would take jobs of u1 on one, two")]
    assert trial.asked == [("u1", "a"), ("u1", "b"), *((f"u{n}", "a") for n in range(2, 6))]


def test_who_is_refused_hides_neither_the_products_nor_the_others(people: Config) -> None:
    lines = tried(people, FakeTrial(refused=["u1", "u4"], qos="b"))
    assert [text for level, text in lines if level == "failed"] == [
        'product two: qos = "b": Slurm refuses a job of u2: Invalid qos specification'
    ]
    assert [text.split(" are ")[0] for level, text in lines if level == "warning"] == ["jobs of u1", "jobs of u4"]


def test_where_nobody_can_run_jobs_the_products_are_wrong_and_the_rest_is_counted(people: Config) -> None:
    trial = FakeTrial(refused=["u1", "u2", "u3", "u4", "u5"])
    lines = tried(people, trial)
    failed = [text for level, text in lines if level == "failed"]
    assert [text.split(":")[0] for text in failed] == ["product one", "product two"]
    assert all("account: Slurm refuses" in text and REFUSED in text for text in failed)
    assert ("ok", "jobs were tried as 3 of 5 users; the others were not tried") in lines
    assert "u4" not in {user for user, _ in trial.asked}


def test_who_was_not_tried_for_want_of_time_is_counted(people: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_jobs, "TRIALS_SECONDS", 0.0)
    lines = tried(people, FakeTrial())
    assert lines[-1] == ("ok", "jobs were tried as 1 of 5 users; the others were not tried")


def test_a_job_that_would_only_wait_is_a_warning(people: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = FakeTrial()
    monkeypatch.setattr(trial, "refusal", lambda *_: "Required partition not available (inactive or drain)")
    assert {level for level, _ in tried(people, trial)} == {"warning", "ok"}
    monkeypatch.setattr(trial, "refusal", lambda *_: "Requested node configuration is not available")
    assert {level for level, _ in tried(people, trial)} == {"warning", "ok"}, "its nodes are large enough"


# -- associations ---------------------------------------------------------------------------------------------


def lacking(
    config: Config, found: Sequence[Association], enforce: str = "associations,limits"
) -> tuple[list[str], frozenset[str]]:
    settings = {"ClusterName": "c", "AccountingStorageEnforce": enforce}
    lines = associations(config, cast("Trial", FakeTrial(found=found)), settings, Budget())
    texts = []
    while True:
        try:
            texts.append(next(lines)[1])
        except StopIteration as end:
            return texts, end.value


def of(*users: str, account: str = "proj-a", partition: str = "") -> list[Association]:
    return [Association(account, "", ""), *(Association(account, user, partition) for user in users)]


def test_everybody_without_an_association_is_named_with_the_command(people: Config) -> None:
    texts, unfit = lacking(people, of("u1", "u2", "u4"))
    assert [re.findall(r"'(u\d)'", text) for text in texts] == [["u3"], ["u5"]]
    assert unfit == {"u3", "u5"}
    assert lacking(people, of("u1"), enforce="none") == ([], frozenset()), "Slurm asks for none"


def test_the_account_of_the_jobs_counts_whatever_its_case_and_for_the_partition_of_the_product(configure: Configure) -> None:
    products = [{"id": "one", "category": "example-compute", "partition": "cpu", "account": "Proj-A"}]
    config = configure("table", products=products)
    connect(config, 1, 2)
    assert lacking(config, of("u1", "u2")) == ([], frozenset())
    assert lacking(config, of("u1", "u2", partition="cpu")) == ([], frozenset())
    assert lacking(config, of("u1", "u2", partition="gpu"))[1] == {"u1", "u2"}
    (text,), unfit = lacking(config, [*of("u1"), *of("u2", account="other")])
    assert "jobs of u2 on one are refused: no association with the account Proj-A" in text
    assert unfit == {"u2"}


def test_a_user_whose_capitals_slurmdbd_dropped_is_told_apart(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure("table")
    monkeypatch.setattr(
        "ucloud_slurm.cli.check_associations.people", lambda _config: [LocalUser("Ada.L", "/home/ada", "/bin/bash")]
    )
    (text,), unfit = lacking(config, of("ada.l"))
    assert "PreserveCaseUser" in text
    assert unfit == {"Ada.L"}
    assert lacking(config, of("Ada.L")) == ([], frozenset())


def test_accounts_of_outside_and_of_projects_are_compared_without_case(configure: Configure) -> None:
    outside = [
        {"account": name, "product": "example-compute-1", "category": "example-compute"} for name in ("Proj-A", "proj-x")
    ]
    config = configure("table", outside=outside)
    texts, _ = lacking(config, of("u1"))
    assert texts == ['outside[2]: account = "proj-x": Slurm has no such account, so no job is registered']


# -- the time -------------------------------------------------------------------------------------------------


def test_what_hangs_is_left_behind_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_SECONDS", 0.1)

    free = Event()

    def hangs() -> Iterator[Line]:
        yield "ok", "before"
        free.wait()

    begun = time.monotonic()
    shown: list[str] = []
    found = list(findings([("homes", hangs), ("later", list)], Budget(0.1, shown.append)))
    assert [(each.what, each.level) for each in found] == [("homes", "ok"), ("homes", "failed")]
    assert "the rest was not checked" in found[1].text
    assert time.monotonic() - begun < 5
    assert shown == ["homes"]
    free.set()


def test_no_question_is_asked_when_the_time_is_over() -> None:
    with pytest.raises(NotNow, match="no time left"):
        Budget(0.0).left()
    assert Budget(5.0).left(2.0) == 2.0


def test_a_mistake_of_the_program_does_not_look_like_a_whole_check() -> None:
    def broken() -> list[Line]:
        raise KeyError("x")

    found = list(findings([("slurm", broken), ("later", list)], Budget()))
    assert [(each.what, each.level) for each in found] == [("slurm", "failed")]
    assert "unexpected KeyError at" in found[0].text
