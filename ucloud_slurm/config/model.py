"""The configuration file: one declaration of every key, its type, its default and what it means.

The file is TOML, named by ``UCLOUD_SLURM_CONFIG``, else ``/etc/ucloud-slurm/config.toml``. Unknown keys are
errors, and all errors are listed at once. ``docs/reference/configuration.rst`` is written from this module.
"""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ucloud_slurm.config.jobs import ApplicationsSection, ContainersSection, FilesRoot, JobsSection, Product
from ucloud_slurm.config.types import CoreUrl, Duration, Identifier, Keep, Section, SessionUrl, SlurmWord, Url
from ucloud_slurm.config.users import UsersSection
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system.accounts import own_account

DEFAULT_PATH = Path("/etc/ucloud-slurm/config.toml")
VARIABLE = "UCLOUD_SLURM_CONFIG"


class ProviderSection(Section):
    """Who we are."""

    id: Identifier = Field(description="The provider's id at UCloud, as it stands in every URL.")
    url: Url = Field(description="How browsers and UCloud reach this service.")


class UCloudSection(Section):
    """Where UCloud is and how the two know each other."""

    url: CoreUrl = Field(description="The address of UCloud. http:// only for a loopback address.")
    refresh_token_file: Path = Field(description="File with the refresh token that UCloud gave, one line.")
    public_key_file: Path = Field(
        description="File with UCloud's public key: base64 SubjectPublicKeyInfo in one line, a PEM public key or "
        "a PEM certificate. Several keys may follow one another while UCloud changes its key."
    )
    era: Literal["today", "2022", "2021"] = Field(
        default="today",
        description="Which UCloud is spoken to: header, charge and state details. 2021: that of autumn 2021; 2022: "
        "that of January 2022 and later, which knows suspended jobs and new time limits; today: that which sites run "
        "now.",
    )
    origins: tuple[Url, ...] = Field(
        default=(),
        description="Where UCloud's web pages come from, if not from ucloud.url: browsers open shells from there.",
    )
    issuer: str = Field(default="cloud.sdu.dk", description="The issuer (iss) of UCloud's tokens.")
    timeout: Duration = Field(default=10.0, description="How long one call to UCloud may take.")
    compare_every: Duration = Field(
        default=3600.0, description="How often UCloud is asked which of our jobs it has open, where it does not ask us."
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of the certificate authorities for UCloud's https; left out: the public ones.",
    )


class DatabaseSection(Section):
    """The one SQLite file."""

    path: Path = Field(
        default=Path("/var/lib/ucloud-slurm/ucloud-slurm.db"),
        description="The SQLite file, on a local disk of this host (its log needs shared memory of one host).",
    )
    keep: Keep = Field(
        default=90 * 86400.0,
        description="How long a job stays in it after its end, with what it used and what UCloud was told of it; then "
        "only UCloud has them. Long enough for whoever asks about a bill of the last quarter; at least a day, in which "
        'a create may be repeated. "0s": for ever, and the file grows.',
    )


class SlurmSection(Section):
    """How Slurm is asked."""

    backend: Literal["auto", "commands", "pyslurm"] = Field(
        default="auto",
        description="commands: Slurm's own commands; pyslurm: the Python module of that name for what is quicker so, "
        "and the commands for the rest and while it cannot be used, of which the journal and check warn; auto: pyslurm "
        "where it is installed and fits.",
    )
    commands: Path = Field(default=Path("/usr/bin"), description="Folder of sbatch, squeue, sacct and the others.")
    conf: Path = Field(default=Path("/etc/slurm/slurm.conf"), description="Slurm's configuration (SLURM_CONF).")
    timeout: Duration = Field(default=20.0, description="A command that takes longer is ended; its answer is lost.")
    submit_at_once: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Most submissions that one process has under way at a time. Whoever submits most waits most.",
    )
    submit_per_second: float | None = Field(
        default=None,
        gt=0,
        description="Most submissions a second as one account, on average over ten seconds; the rest waits for the "
        "worker. For a cluster whose SlurmctldParameters have rl_enable: its rl_refill_rate. Left out: no bound.",
    )


class AccountingSection(Section):
    """How use is told to UCloud."""

    mode: Literal["auto", "charge", "report-usage", "off"] = Field(
        default="auto",
        description="auto: what the era wants; charge: jobs.control.chargeCredits; report-usage: "
        "accounting.v2.reportUsage, which a UCloud of 2024 knows too; off: not at all.",
    )
    every: Duration = Field(default=900.0, description='How often a running job is charged; "0s": at every pass.')
    last_unit: Literal["nearest", "up", "down"] = Field(
        default="nearest", description="How the part of a unit that is left at the end of a job is rounded."
    )
    locked_queued: Literal["hold", "cancel"] = Field(
        default="hold",
        description="What becomes of jobs that have not begun when their owner has nothing left: hold keeps them in "
        "the queue until there is something again, cancel ends them. Jobs that run are ended.",
    )


class SessionsSection(Section):
    """Logs that are followed, shells, and the web pages and screens of applications."""

    url: SessionUrl | None = Field(
        default=None,
        description="Where browsers reach the web pages of applications; the * becomes a name for each session. With "
        "the * as the first part of the host every session has a host name of its own. As the last part of the path "
        "all share one host, and the application of one can use the cookies of another. Left out: none are offered.",
    )
    valid: Duration = Field(default=60.0, description="How long a link or a shell may wait until it is opened, once.")
    life: Duration = Field(default=86400.0, description="How long a browser may use a web page that it has opened.")
    most_per_job: int = Field(
        default=20, ge=1, description="Most sessions of one job, and most streams of its log in one process."
    )
    most: int = Field(default=500, ge=1, description="Most sessions in all, and most streams of logs in one process.")
    tail: int = Field(
        default=4096,
        ge=1,
        description="How much of a log that is there already is shown to somebody who begins to follow it, in KiB.",
    )


class ExternalJobRule(Section):
    """Jobs of a Slurm account that were submitted outside UCloud and are to be shown and charged there."""

    account: SlurmWord = Field(description="The Slurm account of the jobs.")
    product: str = Field(
        min_length=1, description="The configured product that they use; its partition must be theirs."
    )
    category: str = Field(min_length=1, description="The category of that product.")
    created_by: str | None = Field(
        default=None, description="The user of UCloud whose jobs they are; left out: UCloud's own account."
    )
    project: str | None = Field(default=None, description="The project of UCloud that pays for them.")
    application: str = Field(default="unknown", description="The application that they are shown as.")
    version: str = Field(default="unknown", description="Its version.")


class Config(Section):
    """The whole file."""

    provider: ProviderSection
    ucloud: UCloudSection
    database: DatabaseSection = DatabaseSection()
    slurm: SlurmSection = SlurmSection()
    jobs: JobsSection = JobsSection()
    files: tuple[FilesRoot, ...] = ()
    containers: ContainersSection = ContainersSection()
    applications: ApplicationsSection = ApplicationsSection()
    accounting: AccountingSection = AccountingSection()
    users: UsersSection = UsersSection()
    sessions: SessionsSection = SessionsSection()
    products: tuple[Product, ...] = Field(min_length=1)
    outside: tuple[ExternalJobRule, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._people()
        names = [(product.category, product.id) for product in self.products]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"products: {twice[0][1]} in category {twice[0][0]} is there twice")
        self._categories()
        prefixes = [root.ucloud for root in self.files]
        if len(set(prefixes)) < len(prefixes):
            raise ValueError("files: two tables have the same prefix in ucloud")
        for number, rule in enumerate(self.outside, 1):
            if self.product(rule.category, rule.product) is None:
                raise ValueError(f"outside[{number}]: there is no product {rule.product} in {rule.category}")
        return self

    def _people(self) -> None:
        if self.users.mapping == "script" and self.users.script is None:
            raise ValueError('users.script is missing: mapping = "script" asks a program')
        if self.users.script is not None and not self.users.script.is_absolute():
            raise ValueError(f"users.script: {self.users.script} should begin with /")

    def _categories(self) -> None:
        """Products of one category have what belongs to the category in common."""
        first: dict[str, Product] = {}
        for product in self.products:
            other = first.setdefault(product.category, product)
            for key, ours, theirs in (
                ("free", product.free, other.free),
                ("unit_name", product.unit_name, other.unit_name),
                ("unit_name_plural", product.unit_name_plural, other.unit_name_plural),
                ("frequency", product.period, other.period),
            ):
                if ours != theirs:
                    raise ValueError(
                        f"products: {other.id} and {product.id} are both in category {product.category}, whose {key} "
                        f"is one: {_shown(theirs)} for the one and {_shown(ours)} for the other"
                    )

    def product(self, category: str, name: str) -> Product | None:
        """The configured product of that name, or None."""
        for product in self.products:
            if product.id == name and product.category == category:
                return product
        return None

    def service_account(self) -> str:
        """The account that jobs run as under ``mapping = "service"``."""
        return self.users.service_user or own_account()


def _shown(value: object) -> str:
    return "nothing" if value is None else f'"{value}"' if isinstance(value, str) else str(value).lower()


def location() -> Path:
    """The file that is read when none is named."""
    return Path(os.environ.get(VARIABLE) or DEFAULT_PATH)


def read(path: Path | None = None) -> Config:
    """Reads and checks the file.

    :raises Misconfigured: with one sentence for each thing that is wrong
    """
    path = path or location()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(
            [f"{path}: cannot be read ({error.strerror}); write it, or name another file in {VARIABLE}."]
        ) from None
    except UnicodeDecodeError:
        raise Misconfigured([f"{path}: is not UTF-8 text."]) from None
    try:
        return parse(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured([f"{path}: is not valid TOML: {error}."]) from None
    except Misconfigured as error:
        raise Misconfigured([f"{path}: {sentence}" for sentence in error.sentences]) from None


def parse(data: dict[str, Any]) -> Config:
    """Checks what the file said.

    :raises Misconfigured: with one sentence for each thing that is wrong
    """
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise Misconfigured([_sentence(problem) for problem in error.errors(include_url=False)]) from None


def _sentence(problem: Any) -> str:
    where = ""
    for part in problem["loc"]:
        where += f"[{part + 1}]" if isinstance(part, int) else f"{'.' if where else ''}{part}"
    match problem["type"]:
        case "extra_forbidden":
            return f"{where} is not a key that exists; see the reference of the configuration."
        case "missing":
            return f"{where} is missing."
        case "value_error":
            text = str(problem["ctx"]["error"])
        case "literal_error":
            text = f"should be {problem['ctx']['expected']}"
        case _:
            text = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{where}: {text}." if where else f"{text}."
