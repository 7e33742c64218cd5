"""Messages from UCloud: what grows is ignored, what is wrong is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factories import job, job_data
from ucloud_slurm.bridge import naming
from ucloud_slurm.errors import Refused
from ucloud_slurm.ucloud.jobs import Bulk, Job
from ucloud_slurm.ucloud.wire import decode

EXAMPLES = Path(__file__).parents[4] / "shared" / "contract" / "examples"


def bulk(*items: Any) -> bytes:
    return json.dumps({"items": items}).encode()


def without_nulls(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: without_nulls(value) for key, value in data.items() if value is not None}
    return [without_nulls(value) for value in data] if isinstance(data, list) else data


def test_absent_and_null_are_alike() -> None:
    full = decode(Bulk[Job], bulk(job_data()))
    bare = decode(Bulk[Job], bulk(without_nulls(job_data())))
    assert full == bare


def test_unknown_keys_and_kinds_are_ignored() -> None:
    data = job_data()
    data["specification"]["parameters"] = {"x": {"type": "hologram", "depth": 3}}
    data["aNewField"] = {"deep": [1, {"x": None}]}
    data["status"]["state"] = "HIBERNATING"
    made = decode(Bulk[Job], bulk(data)).items[0]
    assert made.specification.parameters["x"].type == "hologram"


@pytest.mark.parametrize("nothing", [None, {"hours": None, "minutes": None, "seconds": None}, {}])
def test_a_time_allocation_of_nulls_is_none(nothing: Any) -> None:
    assert job(timeAllocation=nothing).specification.time_allocation.total is None


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda data: data.pop("owner"), "items[0].owner is missing"),
        (lambda data: data["specification"].pop("product"), "items[0].specification.product is missing"),
        (lambda data: data.update(id=54112), "items[0].id"),
        (lambda data: data.update(id="1;2"), "items[0].id"),
        (lambda data: data.update(id="-1"), "items[0].id"),
        (lambda data: data.update(id="../1"), "items[0].id"),
        (lambda data: data.update(id="1" * 20), "items[0].id"),
        (lambda data: data["specification"].update(replicas=0), "items[0].specification.replicas"),
        (lambda data: data["specification"].update(replicas="2"), "items[0].specification.replicas"),
        (lambda data: data["specification"].update(replicas=1.5), "items[0].specification.replicas"),
        (lambda data: data["specification"].update(replicas=True), "items[0].specification.replicas"),
        (lambda data: data["specification"].update(parameters=[]), "items[0].specification.parameters"),
        (
            lambda data: data["specification"].update(timeAllocation={"hours": 1, "minutes": 60, "seconds": 0}),
            "items[0].specification.timeAllocation.minutes",
        ),
        (
            lambda data: data["specification"].update(timeAllocation={"hours": -1, "minutes": 0, "seconds": 0}),
            "items[0].specification.timeAllocation.hours",
        ),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change: Any, path: str) -> None:
    data = job_data()
    change(data)
    with pytest.raises(Refused) as raised:
        decode(Bulk[Job], bulk(data))
    assert path in raised.value.why


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b'{"items":[]}',
        b'{"items":{}}',
        b'{"items":[null]}',
        b'{"items":NaN}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"items":' * 50_000,
        b'{"items":[{"id":"\\ud800"}]}',
        b'{"items":[{"id":1e999}]}',
        bulk(*[job_data()] * 1001),
    ],
)
def test_what_is_not_a_bulk_of_1_to_1000_jobs_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        decode(Bulk[Job], body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.sampled_from(["id", "owner", "specification", "status"]), st.text(max_size=12))
def test_no_json_breaks_the_decoder(value: Any, part: str, key: str) -> None:
    data = job_data()
    if isinstance(data[part], dict):
        data[part][key or "product"] = value
    else:
        data[part] = value
    try:
        decode(Bulk[Job], bulk(data))
    except Refused as refusal:
        assert refusal.why.isprintable()  # noqa: PT017


def test_a_number_beyond_all_numbers_is_refused() -> None:
    data = json.dumps(job_data(parameters={"x": {"type": "floating_point", "value": 1}})).replace(
        '"value": 1', '"value": 1e999'
    )
    with pytest.raises(Refused, match="too large"):
        decode(Job, data.encode())


def test_the_order_of_parameters_does_not_make_another_job() -> None:
    one, two = {"type": "text", "value": "1"}, {"type": "text", "value": "2"}
    forth, back = job(parameters={"a": one, "b": two}), job(parameters={"b": two, "a": one})
    assert naming.fingerprint(forth) == naming.fingerprint(back)


def test_the_lost_number_of_nodes_is_found_in_the_exported_parameters() -> None:
    data = job_data()
    data["status"]["jobParametersJson"] = {"request": {"replicas": 4}}
    assert decode(Job, json.dumps(data).encode()).replicas == 4


def test_only_owner_and_specification_make_a_job_another_one() -> None:
    same = job_data()
    same["status"]["state"] = "RUNNING"
    same["updates"] = [{"status": "x"}]
    assert naming.fingerprint(decode(Job, json.dumps(same).encode())) == naming.fingerprint(job())
    assert naming.fingerprint(job(replicas=2)) != naming.fingerprint(job())


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the contract's own examples are not beside this checkout")
@pytest.mark.parametrize("name", ["create", "terminate", "verify"])
def test_the_contracts_own_examples_are_read(name: str) -> None:
    jobs = decode(Bulk[Job], (EXAMPLES / f"{name}.request.json").read_bytes()).items
    assert [made.id for made in jobs] == ["54112"]
