"""Why a job waits: each kind of Slurm's reasons, in a sentence that helps."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.rooms.bridge.test_states import QUEUED
from ucloud_slurm.bridge.states import queued_update
from ucloud_slurm.bridge.waiting import (
    MOST_KIND_CHARACTERS,
    MOST_QUOTED_CHARACTERS,
    REASONS,
    WaitingKind,
    WaitingReason,
    waiting_reason,
)
from ucloud_slurm.ucloud.eras import ERA_2021

K = WaitingKind

# What slurmctld and squeue of Slurm 20.11 to 26.05 print.
PRINTED = {
    K.NONE: ["None", "", " ", "\n"],
    K.LINE: [
        *["Priority", "Resources", "ReqNodeNotAvail, May be reserved for other job", "MaxPoweredUpNodes", "Prolog"],
        *["ReqNodeNotAvail,_May_be_reserved_for_other_job", "Priority,Resources", "Cleaning", "BurstBufferStageIn"],
        *["MpiPortsBusy", "NvidiaImexChannels", "PowerNotAvail", "PowerReserved", "SchedDefer", "FedJobLock"],
        "BurstBufferResources",
    ],
    K.BEGIN: ["BeginTime"],
    K.DEPENDENCY: ["Dependency"],
    K.DEPENDENCY_FAILED: ["DependencyNeverSatisfied"],
    K.LICENCES: ["Licenses"],
    K.RESERVATION: ["Reservation"],
    K.RESERVATION_GONE: [
        *["ReservationDeleted", "ReservationInvalid", "Reservation course was deleted", "Reservation_course_is_invalid"]
    ],
    K.NODES: [
        *["ReqNodeNotAvail", "ReqNodeNotAvail, UnavailableNodes:n[1-4,7]", "ReqNodeNotAvail(Unavailable:n1)", "NodeDown"],
        *["ReqNodeNotAvail, UnavailableNodes:", "FrontEndDown", "Constraints"],
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
        "Nodes required for job are DOWN, DRAINED, REBOOTING or reserved for jobs in higher priority partitions",
        "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions",
    ],
    K.MAINTENANCE: ["ReqNodeNotAvail, Reserved for maintenance"],
    K.PARTITION: ["PartitionDown", "PartitionInactive"],
    K.RUNNING_LIMIT: [
        *["QOSGrpCpuLimit", "QOSGrpGRES", "QOSGrpJobsLimit", "QOSGrpSubmitJobsLimit", "QOSGrpCPURunMinutesLimit"],
        *["QOSGrpMemoryRunMinutes", "QOSMaxJobsPerUserLimit", "QOSMaxCpuPerUserLimit", "QOSMaxGRESPerUser", "QOSJobLimit"],
        *["QOSMaxSubmitJobPerUserLimit", "QOSResourceLimit", "AssocGrpCpuLimit", "AssocGrpGRESRunMinutes", "AssocGrpBB"],
        *["AssocMaxJobsLimit", "AssocMaxSubmitJobLimit", "AssociationJobLimit", "AssociationResourceLimit"],
        *["MaxGRESPerAccount", "MaxJobsPerAccount", "MaxCpuRunMinsPerAccount", "MaxGRESRunMinsPerUser"],
        *["AccountingPolicy", "JobArrayTaskLimit"],
    ],
    K.SHARE: ["QOSUsageThreshold"],
    K.BUDGET: [
        *["QOSGrpCPUMinutesLimit", "QOSGrpGRESMinutes", "QOSGrpMemoryMinutes", "QOSGrpWallLimit", "QOSTimeLimit"],
        *["AssocGrpCPUMinutesLimit", "AssocGrpBillingMinutes", "AssocGrpWallLimit", "AssociationTimeLimit"],
    ],
    K.TOO_LONG: ["PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit"],
    K.TOO_LARGE: [
        *["PartitionNodeLimit", "PartitionConfig", "BadConstraints", "MaxMemPerLimit", "QOSMaxCpuPerJobLimit"],
        *["QOSMaxCpuMinutesPerJobLimit", "QOSMaxGRESPerJob", "QOSMaxCpuPerNode", "QOSMaxMemoryMinutesPerJob"],
        *["AssocMaxNodePerJobLimit", "AssocMaxMemPerNode", "AssocMaxBBMinutesPerJob"],
    ],
    K.TOO_SMALL: ["QOSMinCpuNotSatisfied", "QOSMinGRES", "QOSMinMemory"],
    K.NOT_ALLOWED: [
        *["InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed"],
        "Job's account not permitted to use this partition (gpu allows a not b)",
        "Job's QOS not permitted to use this partition (gpu denies short including short)",
        "Job's QOS not known, so it can't use this partition (gpu allows long)",
        "uid 1001 not in group permitted to use this partition (gpu). groups allowed: physics",
    ],
    K.HELD: ["JobHeldUser", "job requeued in held state", "job_requeued_in_special_exit_state"],
    K.HELD_BY_ADMINISTRATOR: ["JobHeldAdmin", "License request 'matlab:2' is no longer valid, holding job"],
    K.LAUNCH_FAILED: [
        *["launch failed requeued held", "launch_failed_requeued_held", "launch failure limit exceeded requeued held"],
        *["user env retrieval failed requeued held", "JobLaunchFailure", "JobHoldMaxRequeue", "SystemFailure"],
        *["BurstBufferOperation", "Burst buffer pre_run error", "burst_buffer/lua: stage_in: no space on pool 3"],
    ],
    K.EARLIER_RUN: ["NonZeroExitCode", "RaisedSignal:9(Killed)", "TimeLimit", "OutOfMemory", "InactiveLimit"],
    K.DEADLINE: ["DeadLine"],
}
HELPLESS = {
    *[K.DEPENDENCY_FAILED, K.RESERVATION_GONE, K.BUDGET, K.TOO_LONG, K.TOO_LARGE, K.TOO_SMALL, K.NOT_ALLOWED, K.HELD],
    *[K.HELD_BY_ADMINISTRATOR, K.LAUNCH_FAILED, K.DEADLINE],
}
LIMITED = ["BB", "Billing", "Cpu", "Energy", "GRES", "License", "Mem", "Memory", "Node", "Unknown"]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PRINTED.items() for text in texts])
def test_every_reason_of_slurm_has_its_kind(kind: WaitingKind, text: str) -> None:
    reason = waiting_reason(text)
    assert reason.kind == kind
    assert reason.waiting_helps is (kind not in HELPLESS)


def test_every_kind_is_tried_and_reached() -> None:
    assert set(PRINTED) == set(WaitingKind) == {reason.kind for reason in REASONS}


@pytest.mark.parametrize("who", ["QOS", "Assoc"])
@pytest.mark.parametrize("what", LIMITED)
def test_limits_on_every_resource_are_in_the_kind_of_what_would_help(who: str, what: str) -> None:
    for end in ("", "Limit"):
        assert waiting_reason(f"{who}Grp{what}{end}").kind == K.RUNNING_LIMIT
        assert waiting_reason(f"{who}Grp{what}RunMinutes{end}").kind == K.RUNNING_LIMIT
        assert waiting_reason(f"{who}Grp{what}Minutes{end}").kind == K.BUDGET
        assert waiting_reason(f"{who}Max{what}PerJob{end}").kind == K.TOO_LARGE
        assert waiting_reason(f"{who}Max{what}MinutesPerJob{end}").kind == K.TOO_LARGE
        assert waiting_reason(f"{who}Max{what}PerNode{end}").kind == K.TOO_LARGE
    assert waiting_reason(f"QOSMax{what}PerUser").kind == K.RUNNING_LIMIT
    assert waiting_reason(f"Max{what}PerAccount").kind == K.RUNNING_LIMIT
    assert waiting_reason(f"Max{what}RunMinsPerUser").kind == K.RUNNING_LIMIT


@pytest.mark.parametrize("reason", [*REASONS], ids=lambda reason: reason.kind)
def test_where_waiting_does_not_help_the_sentence_says_what_to_do(reason: WaitingReason) -> None:
    assert reason.waiting_helps or any(act in reason.sentence for act in ("cancel it", "Cancel it", "support"))


@pytest.mark.parametrize(
    "text", ["Error: the quota of the project is exceeded", "FrobnicationLimit", "the plugin's own words", "Priorities"]
)
def test_an_unknown_reason_is_quoted(text: str) -> None:
    reason = waiting_reason(text)
    assert reason.sentence == f"The job waits in the queue ({text})."
    assert reason.kind.startswith("other: ")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Error: 12 of 16 tokens", "Error: 3 of 16 tokens"),
        ("NewLimit, Nodes:n[1-3]", "NewLimit, Nodes:n[1-3,5]"),
        ("NewLimit(n7)", "NewLimit(n8)"),
    ],
)
def test_what_is_counted_makes_no_new_kind(one: str, other: str) -> None:
    assert waiting_reason(one).kind == waiting_reason(other).kind


def test_unknown_reasons_with_other_words_are_other_kinds() -> None:
    assert waiting_reason("Error: quota").kind != waiting_reason("Error: disk").kind


@example("words " * 200)
@given(st.text() | st.from_regex(r"(ReqNodeNotAvail|Reservation|launch|QOSGrp|other: )[\x00-\xff]{0,400}", fullmatch=True))
def test_any_text_gives_one_short_printable_line(text: str) -> None:
    reason = waiting_reason(text)
    assert 0 < len(reason.kind) <= MOST_KIND_CHARACTERS
    assert reason.kind.isprintable()
    assert reason.sentence.isprintable()
    assert len(reason.sentence) <= MOST_QUOTED_CHARACTERS + 50


@given(st.text(alphabet="noeliheld :"))
def test_no_text_of_others_takes_the_kind_of_a_reason_it_does_not_name(text: str) -> None:
    assert waiting_reason(f"x{text}").kind not in set(WaitingKind)


def test_the_update_of_a_waiting_job_has_the_sentence() -> None:
    update = queued_update(QUEUED._replace(reason="QOSMaxWallDurationPerJobLimit"), ERA_2021)
    assert update is not None
    assert update.status == waiting_reason("QOSMaxWallDurationPerJobLimit").sentence
