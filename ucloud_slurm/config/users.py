"""The table of the configuration file about the Unix users that jobs run as."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from ucloud_slurm.config.types import Before, Duration, Section, key
from ucloud_slurm.system.accounts import FLOOR, RULE_FILE

LINK_SOCKET = Path("/run/ucloud-slurm-link/link.sock")


def _pattern(value: Any) -> str:
    try:
        re.compile(value)
    except (re.error, TypeError) as error:
        raise ValueError(f"should be a regular expression ({error})") from None
    return str(value)


def _group(value: Any) -> str:
    # sudo and groupadd read something else in others; directory services give names with a blank or a backslash.
    if isinstance(value, str) and re.fullmatch(r"[^-%#+:,/=\s][^:,/=]{0,255}", value) and value.isprintable():
        return value
    raise ValueError("should be the name of a group")


@dataclass(frozen=True, kw_only=True)
class UsersSection(Section):
    """The Unix users that jobs run as."""

    mapping: Literal["service", "table", "script"] = key(
        default="service",
        description="service: all jobs run as one user; table: as the user whom `ucloud-slurm users` connects with the "
        "user of UCloud; script: a program of the site decides.",
    )
    service_user: str | None = key(
        default=None,
        example="ucloud-slurm",
        description='The user of all jobs with mapping = "service"; left out: the user that runs this program.',
    )
    uid_floor: int | None = key(
        default=None,
        ge=FLOOR,
        example=1000,
        description=f"No job runs as a user with a smaller uid. It can only narrow the rule about people ({RULE_FILE}); "
        "left out: that of the rule.",
    )
    names: Annotated[str, Before(_pattern)] | None = key(
        default=None,
        example="[a-z_][a-z0-9_-]{0,31}",
        description=f"Regular expression for the names of users that jobs may run as. It can only narrow the rule about "
        f"people ({RULE_FILE}); left out: that of the rule.",
    )
    group: Annotated[str, Before(_group)] = key(
        default="ucloud-users", description="The group whose members jobs may run as, as in the sudo rule."
    )
    account: str | None = key(
        default=None,
        example="ucloud-{project}",
        description="Slurm account of a project's jobs, with {project} filled in. `ucloud-slurm users projects` takes "
        "precedence over it, and it over the account of the product.",
    )
    personal_account: str | None = key(
        default=None, example="{user}", description="Slurm account of jobs without a project; {user} is the Unix user."
    )
    script: Path | None = key(
        default=None,
        example="/etc/ucloud-slurm/who",
        description='The program of mapping = "script"; see the guide about users.',
    )
    script_timeout: Duration = key(default=1.0, description="Its time limit. A job is not accepted without its answer.")
    script_cache: Duration = key(default=300.0, description="How long answers of that program are cached.")
    connections_per_account: int = key(
        default=1,
        ge=1,
        description="How many users of UCloud may be connected with one account of this host ("
        '"users add --shared" exceeds it).',
    )
    runner: Path = key(
        default=Path("/run/ucloud-slurm/runner.sock"),
        description="The socket of the runner, through which this program acts as other users.",
    )
    link: Path = key(default=LINK_SOCKET, description="The socket on which `ucloud-slurm linkd` serves users of this host.")
    sudo: Path = key(default=Path("/usr/bin/sudo"), description="The sudo that the runner uses.")
    program: Path = key(
        default=Path("/opt/ucloud-slurm/bin/ucloud-slurm-as-user"),
        description="The program that sudo starts as a user, and the only one that the sudo rule allows.",
    )
