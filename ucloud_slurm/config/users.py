"""The table of the configuration file that says who jobs run as."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ucloud_slurm.config.types import Duration, Section
from ucloud_slurm.system.accounts import FLOOR, NAMES

LINK_SOCKET = Path("/run/ucloud-slurm-link/link.sock")


def _pattern(value: Any) -> str:
    try:
        re.compile(value)
    except (re.error, TypeError) as error:
        raise ValueError(f"should be a regular expression ({error})") from None
    return str(value)


class UsersSection(Section):
    """Who jobs run as."""

    mapping: Literal["service", "table", "script"] = Field(
        default="service",
        description="service: all jobs run as one account; table: as the account that `ucloud-slurm users` connects "
        "with the user of UCloud; script: a program of the site is asked.",
    )
    service_user: str | None = Field(
        default=None,
        description='The account of all jobs with mapping = "service"; left out: the account that runs this program.',
    )
    uid_floor: int = Field(default=FLOOR, ge=FLOOR, description="No job runs as an account with a smaller uid.")
    names: Annotated[str, BeforeValidator(_pattern)] = Field(
        default=NAMES, description="Regular expression for the names of accounts that jobs may run as."
    )
    group: str = Field(
        default="ucloud-users", description="The group whose members jobs may run as; the rule of sudo names it too."
    )
    account: str | None = Field(
        default=None,
        description="Slurm account of a project's jobs, with {project} filled in; `ucloud-slurm users projects` goes "
        "before it, the account of the product after it.",
    )
    personal_account: str | None = Field(
        default=None, description="Slurm account of jobs without a project, with {user}, the local account, filled in."
    )
    script: Path | None = Field(
        default=None, description='The program that mapping = "script" asks; see the guide about users.'
    )
    script_timeout: Duration = Field(default=1.0, description="How long it may take; then the job is not accepted.")
    script_cache: Duration = Field(default=300.0, description="How long its answers are kept.")
    runner: Path = Field(
        default=Path("/run/ucloud-slurm/runner.sock"),
        description="The socket of the runner, which does what must be done as other accounts than our own.",
    )
    link: Path = Field(
        default=LINK_SOCKET,
        description="The socket on which `ucloud-slurm linkd` waits for people of this host who connect themselves.",
    )
    sudo: Path = Field(default=Path("/usr/bin/sudo"), description="The sudo that the runner uses.")
    program: Path = Field(
        default=Path("/opt/ucloud-slurm/bin/ucloud-slurm-as-user"),
        description="The program that sudo starts as a user; the only one that its rule allows.",
    )
