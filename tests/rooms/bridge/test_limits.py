"""Which new job is the first that is too many."""

from hypothesis import given
from hypothesis import strategies as st

from ucloud_slurm.bridge.limits import Limit, first_beyond, limits_of
from ucloud_slurm.config.jobs import LimitsSection
from ucloud_slurm.config.products import Product
from ucloud_slurm.ucloud.channel import OwnerKind

PERSON, PROJECT = OwnerKind.USER, OwnerKind.PROJECT
MACHINE = Product(id="m", category="c", partition="cpu", jobs_per_person=2, jobs_per_project=3)


def test_a_job_is_under_the_limits_of_its_owner_its_project_and_its_product() -> None:
    limits = LimitsSection(jobs_per_person=5, jobs_per_project=6)
    assert list(limits_of("ada", "p", limits, MACHINE)) == [
        Limit(PERSON, "ada", None, 5),
        Limit(PROJECT, "p", None, 6),
        Limit(PERSON, "ada", ("c", "m"), 2),
        Limit(PROJECT, "p", ("c", "m"), 3),
    ]
    assert [limit.kind for limit in limits_of("ada", None, limits, MACHINE)] == [PERSON, PERSON]
    assert list(limits_of("ada", "p", LimitsSection(), None)) == []


@given(
    most=st.dictionaries(st.sampled_from("abc"), st.integers(1, 5), min_size=3),
    there=st.dictionaries(st.sampled_from("abc"), st.integers(0, 7), min_size=3),
    jobs=st.lists(st.sets(st.sampled_from("abc")), max_size=12),
)
def test_all_jobs_before_the_first_that_is_too_many_are_within_their_limits(
    most: dict[str, int], there: dict[str, int], jobs: list[set[str]]
) -> None:
    limits = {name: Limit(PERSON, name, None, number) for name, number in most.items()}
    wanted = [(place, [limits[name] for name in sorted(names)]) for place, names in enumerate(jobs)]
    found = first_beyond(wanted, lambda limit: there[limit.owner])

    def number(name: str, until: int) -> int:
        return there[name] + sum(name in names for names in jobs[:until])

    end = len(jobs) if found is None else found[0]
    assert all(number(name, place + 1) <= most[name] for place in range(end) for name in jobs[place])
    if found is not None:
        place, limit, beyond = found
        assert limit.owner in jobs[place]
        assert beyond == number(limit.owner, place + 1) > limit.most
