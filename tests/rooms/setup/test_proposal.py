"""Products for odd clusters, from what a real slurmctld (22.05) says of one with everything that is unusual."""

import os
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ucloud_slurm import config
from ucloud_slurm.config.annotated import EXAMPLE, annotated
from ucloud_slurm.setup.proposal import Counting, kinds, missing, propose, slug
from ucloud_slurm.setup.survey import is_there
from ucloud_slurm.slurm.inventory import Machine, PartitionRules, gpus, machines, partitions

ODD = Path(__file__).parent / "odd"
MACHINES = machines((ODD / "nodes.txt").read_text())
PARTITIONS = partitions((ODD / "partitions.txt").read_text())
AUTO = Counting("auto", "minute")


def products(provider: str = "example", counting: Counting = AUTO, *only: str) -> dict[str, dict[str, Any]]:
    found = propose(provider, MACHINES, PARTITIONS, counting, only).products
    assert len({product["id"] for product in found}) == len(found)
    return {product["id"]: dict(product) for product in found}


def rules(name: str = "cpu", **values: Any) -> PartitionRules:
    usual: dict[str, Any] = {
        "state": "UP",
        "minutes": None,
        "nodes_max": None,
        "whole_nodes": False,
        "cpus_max": None,
        "memory_max": None,
        "memory_per_cpu": None,
        "root_only": False,
        "needs_reservation": False,
        "accounts": (),
        "groups": (),
        "qos": (),
    }
    return PartitionRules(name=name, **usual | values)


def machine(name: str, memory: int = 64_000, cpus: int = 16, **values: Any) -> Machine:
    usual: dict[str, Any] = {"gpus": (), "partitions": ("cpu",), "billing": cpus}
    return Machine(name=name, cpus=cpus, memory=memory, **usual | values)


# ---- reading


def test_what_is_kept_from_jobs_is_not_sold() -> None:
    first = MACHINES[0]
    assert (first.name, first.cpus, first.memory) == ("c001", 62, 257_000 - 4096)


def test_the_text_of_an_administrator_is_no_field_of_a_node() -> None:
    (down,) = [machine for machine in MACHINES if machine.name == "c005"]
    assert (down.memory, down.partitions, down.gpus) == (515_000, ("batch", "Big_Mem+2.4"), ())


def test_a_memory_that_is_not_configured_is_unknown() -> None:
    (found,) = machines("NodeName=n1 CPUTot=4 RealMemory=1 Gres=(null) Partitions=cpu CfgTRES=cpu=4,mem=1M,billing=4")
    assert (found.memory, found.billing) == (0, 4)
    (product,) = propose("example", [found], [rules()], AUTO).products
    assert "memory_gb" not in product


@pytest.mark.parametrize(
    ("gres", "found"),
    [
        ("(null)", ()),
        ("gpu:2", (("", 2),)),
        ("gpu:a100:4(S:0-1),mps:400", (("a100", 4),)),
        ("gpu:v100:2(S:0),gpu:a100:2(S:1)", (("v100", 2), ("a100", 2))),
        ("craynetwork:4,gpu:0", ()),
        ("gpu:a100:2(S:0),gpu:a100:2(S:1)", (("a100", 4),)),
        ("gpu", (("", 1),)),
        ("gpu:a100", (("a100", 1),)),
        ("gpu:4090:2", (("4090", 2),)),
        ("gpu:no_consume:a100:2,shard:8", (("a100", 2),)),
    ],
)
def test_gpus_are_told_from_other_resources(gres: str, found: tuple[tuple[str, int], ...]) -> None:
    assert gpus(gres) == found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_of_slurm_in_a_closed_folder_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").touch()
    assert is_there(tmp_path / "slurm.conf")
    tmp_path.chmod(0o700)
    os.setresuid(65534, 65534, 0)
    try:
        assert not is_there(tmp_path / "slurm.conf")
    finally:
        os.setresuid(0, 0, 0)


def test_a_name_with_a_blank_is_not_cut_to_another_one() -> None:
    found = partitions("PartitionName=a b AllowGroups=ALL MaxTime=UNLIMITED State=UP\n")
    assert [each.name for each in found] == ["a b"]
    (reason,) = propose("x", [], found, AUTO).left_out
    assert reason == "partition a b: its name has characters that products.partition cannot have"


def test_a_name_that_a_configured_product_has_is_not_given_again() -> None:
    (product,) = propose("p", [machine("a")], [rules()], AUTO, taken=["p-cpu"]).products
    assert product["category"] == "p-cpu-2"
    (again,) = propose("p", [machine("a")], [rules()], AUTO, taken=[product["id"], product["category"]]).products
    assert (again["category"], again["id"]) == ("p-cpu", "p-cpu-16c-62g")


# ---- proposing


def test_each_kind_of_machine_in_each_open_partition_is_a_product() -> None:
    assert [*products()] == [
        "example-batch-62c-246g",
        "example-batch-64c-502g",
        "example-debug-62c-246g",
        "example-gpu-cpu-64c-502g",
        "example-gpu-2gpu",
        "example-gpu-4a100",
        "example-gpu-2v100-2a100",
        "example-whole-62c-246g",
    ]


def test_a_partition_without_a_product_has_a_reason() -> None:
    reasons = dict(
        sentence.removeprefix("partition ").split(": ", 1) for sentence in propose("x", MACHINES, PARTITIONS, AUTO).left_out
    )
    assert reasons == {
        "empty": "it has no nodes",
        "closed": "its state is DOWN, not UP",
        "root_only": "only root may submit to it (RootOnly)",
        "Big_Mem+2.4": "only for the accounts physics, chem",
        "späne": "its name has characters that products.partition cannot have",
    }


def test_a_partition_that_is_named_is_taken_if_it_can_be() -> None:
    found = propose("x", MACHINES, PARTITIONS, AUTO, ["Big_Mem+2.4", "closed", "empty", "nope"])
    assert {product["partition"] for product in found.products} == {"Big_Mem+2.4", "closed"}
    assert len(found.left_out) == 2


def test_limits_are_those_of_the_partition_and_its_nodes() -> None:
    found = products()
    assert (found["example-debug-62c-246g"]["time_max"], found["example-debug-62c-246g"]["nodes_max"]) == ("30m", 1)
    assert (found["example-batch-62c-246g"]["time_max"], found["example-batch-62c-246g"]["nodes_max"]) == ("7d", 4)
    assert "time_max" not in found["example-gpu-4a100"]
    assert found["example-whole-62c-246g"]["exclusive"] is True
    assert "exclusive" not in found["example-batch-62c-246g"]


def test_gpus_of_two_kinds_are_asked_for_by_their_kinds() -> None:
    found = products()
    assert found["example-gpu-2v100-2a100"]["gres"] == "gpu:v100:2,gpu:a100:2"
    assert found["example-gpu-2v100-2a100"]["gpus"] == 4
    assert "gres" not in found["example-gpu-2gpu"]


def test_nodes_with_gpus_and_without_are_in_categories_of_their_own_because_they_are_counted_differently() -> None:
    found = {name: (product["category"], product["charge_by"]) for name, product in products().items()}
    assert found["example-gpu-cpu-64c-502g"] == ("example-gpu-cpu", "core")
    assert found["example-gpu-4a100"] == found["example-gpu-2gpu"] == ("example-gpu", "gpu")


@pytest.mark.parametrize("by", ["auto", "core", "node", "gpu", "billing"])
@pytest.mark.parametrize("provider", ["example", "Exa.mple-2", "x"])
def test_what_is_proposed_is_a_configuration_that_can_be_read(by: str, provider: str) -> None:
    found = propose(provider, MACHINES, PARTITIONS, Counting(by, "hour"), [each.name for each in PARTITIONS])
    read = config.parse({**EXAMPLE, "products": [*found.products]})
    assert {product.frequency for product in read.products} == {"hour"}
    assert read.products[0].charge_by == ("core" if by in ("auto", "gpu") else by)


def test_the_billing_of_a_node_is_slurms_own() -> None:
    assert products("example", Counting("billing", "minute"))["example-gpu-2v100-2a100"]["node_billing"] == 154


def test_nodes_that_differ_by_a_little_memory_are_of_one_kind_that_fits_all() -> None:
    found = [*kinds(rules(), [machine("a", 64_000), machine("b", 63_900), machine("c", 128_000)])]
    assert [(kind.count, kind.memory) for kind in found] == [(2, 63_900), (1, 128_000)]


@pytest.mark.parametrize(
    ("limit", "cpus", "memory"),
    [("MaxCPUsPerNode=8", 8, 64_000), ("MaxMemPerNode=32000", 16, 32_000), ("MaxMemPerCPU=1000", 16, 16_000)],
)
def test_what_a_partition_gives_of_a_node_is_all_that_is_sold(limit: str, cpus: int, memory: int) -> None:
    (partition,) = partitions(f"PartitionName=cpu State=UP MaxTime=UNLIMITED MaxNodes=UNLIMITED {limit}")
    (kind,) = kinds(partition, [machine("a")])
    assert (kind.cpus, kind.memory) == (cpus, memory)


def test_partitions_whose_names_are_alike_at_ucloud_have_names_of_their_own() -> None:
    nodes = [machine("a", partitions=("a+b", "a-b", "A-B"))]
    found = propose("p", nodes, [rules("a+b"), rules("a-b"), rules("A-B")], AUTO).products
    assert {product["category"] for product in found} == {"p-a-b", "p-a-b-2", "p-a-b-3"}
    assert max(Counter(product["id"] for product in found).values()) == 1
    config.parse({**EXAMPLE, "products": [*found]})


def test_a_node_with_less_than_a_gibibyte_is_sold_to_the_mebibyte() -> None:
    (product,) = propose("p", [machine("a", 900)], [rules()], AUTO).products
    assert product["memory_gb"] * 1024 == 900
    assert product["id"] == "p-cpu-16c"


@pytest.mark.parametrize(("text", "name"), [("Big_Mem+2.4", "big_mem-2.4"), ("a b", "a-b"), ("--x--", "x")])
def test_a_name_at_ucloud_has_plain_characters(text: str, name: str) -> None:
    assert slug(text) == name


def test_only_partitions_without_a_product_are_missing() -> None:
    proposed = propose("p", MACHINES, PARTITIONS, AUTO).products
    assert {each["partition"] for each in missing(proposed, [{"partition": "batch"}, {"partition": "gpu"}])} == {
        "debug",
        "whole",
    }


def test_odd_names_come_through_the_annotated_file() -> None:
    data = {**EXAMPLE, "products": [*propose("p", MACHINES, PARTITIONS, AUTO, ["Big_Mem+2.4"]).products]}
    assert tomllib.loads(annotated(data))["products"] == data["products"]
