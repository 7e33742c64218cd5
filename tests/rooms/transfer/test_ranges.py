"""Which part of a file a request asks for."""

import pytest

from ucloud_slurm.errors import Problem
from ucloud_slurm.transfer.ranges import Span, entity_tag, wanted

TAG = entity_tag(100, 1)
WHOLE = Span(0, 100, True)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, WHOLE),
        ("bytes=0-", Span(0, 100, False)),
        ("bytes=10-19", Span(10, 10, False)),
        ("bytes=10-1000", Span(10, 90, False)),
        ("bytes=-10", Span(90, 10, False)),
        ("bytes=-1000", Span(0, 100, False)),
        ("bytes=99-99", Span(99, 1, False)),
        ("bytes=20-10", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=0-1,5-6", WHOLE),
        ("lines=1-2", WHOLE),
        ("bytes=" + "9" * 30 + "-", WHOLE),
    ],
)
def test_one_part_or_the_whole(header: str | None, found: Span) -> None:
    assert wanted(header, None, 100, TAG) == found


def test_a_part_of_another_state_is_the_whole() -> None:
    assert wanted("bytes=10-", TAG, 100, TAG) == Span(10, 90, False)
    assert wanted("bytes=10-", entity_tag(100, 2), 100, TAG) == WHOLE


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=1000-2000", "bytes=-0"])
def test_a_part_beyond_the_end_is_refused(header: str) -> None:
    with pytest.raises(Problem) as refused:
        wanted(header, None, 100, TAG)
    assert refused.value.status == 416


def test_what_is_sent_is_named() -> None:
    assert Span(10, 90, False).content_range(100) == "bytes 10-99/100"
