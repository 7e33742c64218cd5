"""The configuration: one declaration of every key, with its type, its default and its meaning.

``docs/reference/configuration.rst`` is generated from this package.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from ucloud_slurm.config.branding import BrandingSection
from ucloud_slurm.config.database import DatabaseSection
from ucloud_slurm.config.drives import DriveRule, TransfersSection, check_drives
from ucloud_slurm.config.hooks import Hook, check_hooks
from ucloud_slurm.config.jobs import (
    WHO_STARTED,
    ApplicationsSection,
    ContainersSection,
    ExternalJobRule,
    FilesRoot,
    JobsSection,
    LimitsSection,
)
from ucloud_slurm.config.products import Product, check_categories
from ucloud_slurm.config.types import Duration, Identifier, Section, key
from ucloud_slurm.config.urls import Address, CoreUrl, ProxyUrl, SessionUrl, Url
from ucloud_slurm.config.users import UsersSection
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.credentials import read_credentials, read_secret


@dataclass(frozen=True, kw_only=True)
class ProviderSection(Section):
    """This provider."""

    id: Identifier = key(example="example", description="The provider's id at UCloud, a part of every URL that UCloud calls.")
    url: Address = key(
        example="https://hpc.example.org",
        description="The URL under which browsers and UCloud reach this service, without a path.",
    )


@dataclass(frozen=True, kw_only=True)
class UCloudSection(Section):
    """Where UCloud is, and how it and this provider authenticate."""

    url: CoreUrl = key(
        example="https://cloud.sdu.dk", description="The URL of UCloud. http:// is accepted for a loopback address only."
    )
    refresh_token_file: Path = key(
        example="/etc/ucloud-slurm/refresh-token", description="File with the refresh token that UCloud issued, in one line."
    )
    public_key_file: Path = key(
        example="/etc/ucloud-slurm/ucloud.pub",
        description="File with UCloud's public key: base64 SubjectPublicKeyInfo in one line, a PEM public key or "
        "a PEM certificate. It may contain several keys, one after another, while UCloud changes its key.",
    )
    era: Literal["today", "2022", "2021"] = key(
        default="today",
        description="The version of UCloud's protocol: headers, charges and states. 2021: UCloud of autumn 2021; 2022: "
        "UCloud of January 2022 and later, which knows suspended jobs and new time limits; today: UCloud as sites run "
        "it now.",
    )
    origins: tuple[Url, ...] = key(
        default=(),
        description="Origins of UCloud's web pages, if not that of ucloud.url: pages of these origins may open shells.",
    )
    issuer: str = key(default="cloud.sdu.dk", description="The issuer of UCloud's tokens (claim iss).")
    timeout: Duration = key(default=10.0, description="Time limit of one call to UCloud.")
    compare_every: Duration = key(
        default=3600.0,
        description="How often the open jobs are compared with those that UCloud has open, where UCloud does not ask "
        "for that itself.",
    )
    ca_file: Path | None = key(
        default=None,
        example="/etc/ucloud-slurm/ca.pem",
        description="PEM file with the certificate authorities for https to UCloud; left out: the public ones.",
    )
    proxy: ProxyUrl | None = key(
        default=None,
        example="http://proxy.example.org:3128",
        description="The HTTP proxy of all connections to UCloud, http:// with its port; left out: none. The environment "
        "names no proxy.",
    )
    proxy_credentials_file: Path | None = key(
        default=None,
        example="/etc/ucloud-slurm/proxy-credentials",
        description="File with user:password for that proxy, in one line; left out: it asks for none.",
    )

    @property
    def token_place(self) -> str:
        """Where the refresh token is, for a sentence."""
        return f"ucloud.refresh_token_file ({self.refresh_token_file})"

    def refresh_token(self) -> str:
        """Reads the refresh token.

        :raises Misconfigured: the file cannot be read, or does not hold one line
        """
        return read_secret("ucloud.refresh_token_file", self.refresh_token_file, "the refresh token")

    def proxy_url(self) -> str | None:
        """The URL of the proxy with its credentials, which is a secret; None without a proxy.

        :raises Misconfigured: the file of the credentials cannot be read, or does not hold them
        """
        if self.proxy is None or self.proxy_credentials_file is None:
            return self.proxy
        user, password = read_credentials("ucloud.proxy_credentials_file", self.proxy_credentials_file)
        return self.proxy.replace("://", f"://{quote(user, safe='')}:{quote(password, safe='')}@", 1)


@dataclass(frozen=True, kw_only=True)
class SlurmSection(Section):
    """How Slurm is called."""

    backend: Literal["auto", "commands", "pyslurm"] = key(
        default="auto",
        description="commands: Slurm's own commands; pyslurm: the Python module of that name where it is faster, and "
        "the commands for everything else and while it cannot be used, of which the journal and check warn; auto: "
        "pyslurm where it is installed and matches the release of Slurm.",
    )
    commands: Path = key(default=Path("/usr/bin"), description="Folder of sbatch, squeue, sacct and the other commands.")
    conf: Path = key(default=Path("/etc/slurm/slurm.conf"), description="Slurm's configuration file (SLURM_CONF).")
    timeout: Duration = key(default=20.0, description="Time limit of a command of Slurm, which is killed after it.")
    submit_at_once: int = key(
        default=4,
        ge=1,
        le=64,
        description="How many submissions one process runs at a time. Owners of jobs are served round-robin, so that "
        "one with many jobs does not delay the others.",
    )
    submit_per_second: float | None = key(
        default=None,
        gt=0,
        example=2.0,
        description="How many jobs are submitted per second as one user, averaged over ten seconds; further jobs wait "
        "for the worker. On a cluster whose SlurmctldParameters have rl_enable, set it to rl_refill_rate. Left out: no "
        "limit.",
    )


@dataclass(frozen=True, kw_only=True)
class AccountingSection(Section):
    """How use is reported to UCloud."""

    mode: Literal["auto", "charge", "report-usage", "off"] = key(
        default="auto",
        description="auto: what the era expects; charge: jobs.control.chargeCredits; report-usage: "
        "accounting.v2.reportUsage, which UCloud of 2024 knows too; off: nothing is reported.",
    )
    every: Duration = key(default=900.0, description='How often a running job is charged; "0s": at every pass of the worker.')
    last_unit: Literal["nearest", "up", "down"] = key(
        default="nearest",
        description="How the part of a unit that is left of all jobs of a wallet is rounded when one of them ends. What "
        "rounding adds or drops is carried to the next job of that wallet.",
    )
    locked_queued: Literal["hold", "cancel"] = key(
        default="hold",
        description="What happens to jobs that have not begun when the wallet that pays for them is locked: hold keeps "
        "them in the queue until it is unlocked, cancel ends them. Running jobs are ended.",
    )


@dataclass(frozen=True, kw_only=True)
class SessionsSection(Section):
    """Logs, shells, and the web pages and screens of applications."""

    url: SessionUrl | None = key(
        default=None,
        example="https://*.apps.hpc.example.org",
        description="Where browsers reach the web pages of applications; the * is replaced by the name of a session. "
        "As the first part of the host, it gives every session a host name of its own. As the last part of the path, "
        "all sessions share one host, and one application can use the cookies of another. Left out: no web pages are "
        "offered.",
    )
    valid: Duration = key(default=60.0, description="How long a link to a web page or a shell is valid. It works once.")
    life: Duration = key(default=86400.0, description="How long a browser can use a web page that it has opened.")
    most_per_job: int = key(default=20, ge=1, description="Most sessions of one job, and most streams of its log.")
    most: int = key(default=500, ge=1, description="Most sessions in all, and most streams of logs in one process.")
    tail: int = key(default=4096, ge=1, description="How much of an existing log is shown first when it is followed, in KiB.")


@dataclass(frozen=True, kw_only=True)
class JournalSection(Section):
    """What the services write into the journal."""

    format: Literal["text", "json"] = key(
        default="text",
        description="text: a sentence in each line; json: an object in each line, with time, level, logger, message, and job, "
        "request and user where they are known. Restart the services after a change.",
    )


@dataclass(frozen=True, kw_only=True)
class Config(Section):
    """The whole file."""

    provider: ProviderSection
    branding: BrandingSection = BrandingSection()
    ucloud: UCloudSection
    database: DatabaseSection = DatabaseSection()
    slurm: SlurmSection = SlurmSection()
    jobs: JobsSection = JobsSection()
    limits: LimitsSection = LimitsSection()
    files: tuple[FilesRoot, ...] = ()
    drives: tuple[DriveRule, ...] = ()
    transfers: TransfersSection = TransfersSection()
    containers: ContainersSection = ContainersSection()
    applications: ApplicationsSection = ApplicationsSection()
    accounting: AccountingSection = AccountingSection()
    users: UsersSection = UsersSection()
    sessions: SessionsSection = SessionsSection()
    journal: JournalSection = JournalSection()
    products: tuple[Product, ...] = key(min_length=1)
    outside: tuple[ExternalJobRule, ...] = ()
    hooks: tuple[Hook, ...] = ()

    def __post_init__(self) -> None:
        self._check_users()
        names = [(product.category, product.id) for product in self.products]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"products: {repeated[0][1]} in category {repeated[0][0]} is configured twice")
        check_categories(self.products)
        prefixes = [root.ucloud for root in self.files]
        if len(set(prefixes)) < len(prefixes):
            raise ValueError("files: two tables have the same prefix in ucloud")
        check_drives(self.drives, self.users.mapping)
        check_hooks(self.hooks)
        categories = {product.category for product in self.products}
        mixed = next((rule.category for rule in self.drives if rule.category in categories), None)
        if mixed is not None:
            raise ValueError(f"drives: the category {mixed} is one of machines; a category has products of one kind")
        for number, rule in enumerate(self.outside, 1):
            if self.product(rule.category, rule.product) is None:
                raise ValueError(f"outside[{number}]: there is no product {rule.product} in {rule.category}")
            if rule.created_by == WHO_STARTED and self.users.mapping != "table":
                raise ValueError(f'outside[{number}].created_by: "{WHO_STARTED}" needs users.mapping = "table"')

    def _check_users(self) -> None:
        if self.users.mapping == "script" and self.users.script is None:
            raise ValueError('users.script is missing: mapping = "script" asks a program')
        if self.users.script is not None and not self.users.script.is_absolute():
            raise ValueError(f"users.script: {self.users.script} should begin with /")
        if self.users.mapping == "service" and "{user}" in (self.jobs.ssh or ""):
            raise ValueError('jobs.ssh: with mapping = "service" {user} is one account for all; leave it out of the command')

    def product(self, category: str, name: str) -> Product | None:
        """The configured product of that name and category, or None."""
        return next((each for each in self.products if (each.category, each.id) == (category, name)), None)

    def drive(self, name: str) -> DriveRule | None:
        """The configured drives of that name, or None."""
        return next((rule for rule in self.drives if rule.name == name), None)

    def hook(self, event: str) -> Hook | None:
        """The configured program for an event, or None."""
        return next((hook for hook in self.hooks if event in hook.events), None)

    def service_account(self) -> str:
        """The Unix user that jobs run as with ``mapping = "service"``."""
        return self.users.service_user or own_account()
