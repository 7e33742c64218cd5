"""pyslurm gets exactly what sbatch would get, or nothing."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.rooms.slurm.stand_ins import ATTRIBUTES, submission
from ucloud_slurm.slurm.pyslurm.translation import DESCRIPTION, JOB, UnsupportedError, clock, description, record
from ucloud_slurm.slurm.states import SlurmState

HOSTILE = "a, b=c 'q' \"z\" $x\t%j\n#SBATCH --uid=0 é"


def test_every_field_of_a_submission_is_said() -> None:
    wanted = description(
        submission(
            name="ucloud-1",
            comment=HOSTILE,
            nodes=2,
            tasks=3,
            cpus=4,
            memory=5000,
            gres="gpu:a100:2,disk:1",
            minutes=1501,
            account="proj-a",
            qos="high",
            constraint="ib&avx",
            reservation="course",
            output="/tmp/100%/out",
            error="/tmp/%j/err",
            exclusive=True,
            signal="B:USR1@300",
        )
    )
    environment = wanted.pop("environment")
    assert wanted == {
        "name": "ucloud-1",
        "comment": HOSTILE,
        "script": "#!/bin/bash\ntrue\n",
        "partitions": "cpu",
        "account": "proj-a",
        "qos": "high",
        "constraints": "ib&avx",
        "reservations": "course",
        "nodes": 2,
        "ntasks": 6,
        "ntasks_per_node": 3,
        "cpus_per_task": 4,
        "memory_per_node": 5000,
        "gres_per_node": {"gpu:a100": 2, "disk": 1},
        "time_limit": "25:01:00",
        "working_directory": "/tmp",
        "standard_output": "/tmp/100%%/out",
        "standard_error": "/tmp/%%j/err",
        "log_files_open_mode": "append",
        "signal": "B:SIGUSR1@300",
        "resource_sharing": "exclusive",
    }
    # slurmd would run the user's login profile on the node.
    assert {"SLURM_GET_USER_ENV", "SLURM_EXPORT_ENV"}.isdisjoint(environment)
    assert set(wanted) <= {name.name for name in DESCRIPTION}


def test_what_is_left_to_the_cluster_is_not_said() -> None:
    wanted = description(submission(memory=None, minutes=None))
    assert {"memory_per_node", "time_limit", "gres_per_node", "account", "signal", "resource_sharing"}.isdisjoint(wanted)


@pytest.mark.parametrize(
    "more",
    [
        {"more": ("--licenses=x",)},
        {"omit": ("nodes",)},
        {"cpus": None},
        {"cpus": 70_000},
        {"tasks": 0},
        {"memory": 0},
        {"minutes": 0},
        {"gres": "gpu"},
        {"gres": "gpu:2,gpu:3"},
        {"gres": "none"},
        {"gres": "gpu:a100:2K"},
        {"gres": "gpu:a:b:2"},
        {"signal": "KILL@60"},
        {"signal": "USR1"},
        {"signal": "R:USR1@60"},
        {"name": ""},
        {"name": "a\0b"},
        {"comment": "a\ud800b"},
        {"qos": ""},
        {"script": "/etc/passwd"},
        {"script": "#!/bin/sh"},
        {"script": "echo\n"},
        {"script": ""},
        {"script": "#!/bin/sh\r\ntrue\r\n"},
        {"script": "#!/bin/sh\n#SBATCH --uid=0\n"},
        {"script": "#!/bin/sh\ntrue\0\n"},
    ],
    ids=str,
)
def test_what_cannot_be_said_exactly_is_left_to_sbatch(more: Mapping[str, Any]) -> None:
    description(submission())
    with pytest.raises(UnsupportedError):
        description(submission(**more))


def test_a_time_limit_is_written_in_hours_and_minutes() -> None:
    assert [clock(minutes) for minutes in (1, 60, 1439, 10_000)] == ["0:01:00", "1:00:00", "23:59:00", "166:40:00"]


def test_a_job_is_read_as_squeue_lists_it() -> None:
    attributes = ATTRIBUTES | {"id": 7}
    assert {name.name for name in JOB} == set(attributes)
    found = record(attributes)
    assert (found.id, found.name, found.state, found.state_text) == (7, "ucloud-1", SlurmState.RUNNING, "RUNNING")
    assert (found.submitted, found.started, found.elapsed, found.minutes) == (1000, 1001, 60, 90)
    assert (found.nodes, found.cpus, found.node_list) == (2, 8, "n[1-2]")
    waiting = record(attributes | {"start_time": None, "allocated_nodes": None, "time_limit": None, "account": None})
    assert (waiting.started, waiting.node_list, waiting.minutes, waiting.account) == (None, "", None, "(null)")
