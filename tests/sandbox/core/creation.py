"""How users of UCloud start jobs, and what the provider hears of it (contract: create)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.sandbox.core.capabilities import Capabilities
from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.complaints import Complaints
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.drives import Drives, drive_of_path
from tests.sandbox.core.early.credits import Wallets, check_credits
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreError, ProtocolError
from tests.sandbox.core.jobs import Jobs
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.rendering import SentJobs
from tests.sandbox.core.today import forms
from tests.sandbox.core.today.application import PARAMETER, whole_application
from tests.sandbox.core.today.quotas import Accounts, Workspace
from tests.sandbox.core.user_requests import UserRequest, specification, stored

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobCreation:
    """What the page of an application does."""

    era: CoreEra
    calls: ProviderCalls
    jobs: Jobs
    sent: SentJobs
    catalogue: Catalogue
    directory: Directory
    wallets: Wallets
    accounts: Accounts
    capabilities: Capabilities
    complaints: Complaints
    drives: Drives

    def submit(
        self,
        application: tuple[str, str],
        product: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        resources: Sequence[Json] = (),
        name: str | None = None,
        replicas: int = 1,
        minutes: int | None = 10,
        time_allocation: Mapping[str, int] | None = None,
        owner: str = "user",
        project: str | None = None,
    ) -> str:
        """Start a job as a user would. The arguments are those of :class:`UserRequest`.

        :return: the job's id
        :raises CoreError: what the user would see, with the provider's own status and sentence where it
            refused; the job is gone then
        """
        request = UserRequest(
            application, product, parameters or {}, resources, name, replicas, minutes, time_allocation, owner, project
        )
        return self.submit_many([request])[0]

    def submit_many(self, requests: Sequence[UserRequest | Mapping[str, Any]]) -> list[str]:
        """Start jobs of one person in one bulk: all, or none; or one after the other up to the first that fails,
        in an era that creates singly.

        :param requests: as mappings they have the arguments of :meth:`submit`
        :return: their ids, in order
        :raises CoreError: see :meth:`submit`
        """
        wanted = [each if isinstance(each, UserRequest) else UserRequest(**each) for each in requests]
        if len({request.owner for request in wanted}) != 1:
            raise ValueError("A bulk is one person's.")
        specifications = [self._specification(request) for request in wanted]
        for request, spec in zip(wanted, specifications, strict=True):
            if self.era.asks_wallet:
                check_credits(request, self.catalogue, self.wallets)
            else:
                workspace = Workspace.of(request.owner, request.project)
                self.accounts.require(workspace, spec["product"]["category"])
        self.capabilities.admit(specifications)
        every = list(zip(specifications, wanted, strict=True))
        bulks = [[each] for each in every] if self.era.creates_singly else [every]
        return [job_id for bulk in bulks for job_id in self._create(bulk)]

    def have(self, requests: Sequence[UserRequest], *, answered: bool = True) -> list[Json]:
        """Have jobs whose create somebody else sends.

        :param answered: whether the create counts as answered; else :meth:`confirm` does that
        :return: the jobs as they would be sent, in order
        """
        made = []
        for request in requests:
            spec = self._specification(request)
            made.append(self.jobs.add(stored(spec), request.owner, request.project, confirmed=answered))
        return [self.sent.job(job) for job in made]

    def confirm(self, job_ids: Sequence[str]) -> None:
        """A create that somebody else has sent was answered."""
        self.jobs.confirm(dict.fromkeys(job_ids))

    def open_form(self, application: tuple[str, str], owner: str = "user", project: str | None = None) -> list[Json]:
        """Ask for the provider's own parameters of an application, as a form does before a job is started.

        :param application: name and version
        :return: ApplicationParameters
        :raises CoreError: what the provider answered; 400 for an unknown application
        """
        app = self.catalogue.application(*application)
        if app is None:
            raise CoreError(400, f"Unknown application: {application[0]} {application[1]}")
        call = self.calls.about_jobs("requestDynamicParameters")
        whole = {"owner": {"createdBy": owner, "project": project}, "application": whole_application(app)}
        data = self.calls.for_user(call, whole, owner)
        found = (data or {}).get("parameters")
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            self.complaints.add(f"{call}: parameters is no list; say [] for none")
            if found is not None:
                raise CoreError(502, "Invalid response from provider")
        try:
            forms.check(found or [])
        except ProtocolError as error:
            self.complaints.add(f"{call}: {error}")
        return [PARAMETER | entry for entry in found or []]

    def _specification(self, request: UserRequest) -> Json:
        self.directory.meet(request.owner, request.project)
        if self.era.job_form == "first":
            return specification(request, self.catalogue)
        spec = specification(request, self.catalogue, self._ask_more)
        parameters = {name: self._file(value, request.owner) for name, value in spec["parameters"].items()}
        return spec | {"parameters": parameters, "resources": [self._file(each, request.owner) for each in spec["resources"]]}

    def _file(self, value: Json, user: str) -> Json:
        """A value as Core passes it on: what a user wrote of ``readOnly`` of a file is lost.

        A path that begins with no number is let through, for tests of every era: Core refuses it.

        :raises CoreError: 403 for a file of a drive that the user may not read, whosever it is
        """
        drive_id = drive_of_path(value.get("path", "")) if value.get("type") == "file" else None
        if drive_id is None or not drive_id.isdigit():
            return value
        drive = self.drives.require(drive_id, user, "READ")
        return value | {"readOnly": "EDIT" not in self.drives.permissions(drive, user)}

    def _ask_more(self, app: Json, request: UserRequest) -> list[Json]:
        """Parameters that the provider adds to those of an application.

        :raises CoreError: 502
        """
        name = app["metadata"]
        try:
            return self.open_form((name["name"], name["version"]), request.owner, request.project)
        except CoreError as error:
            raise CoreError(502, error.why) from error

    def _create(self, bulk: Sequence[tuple[Json, UserRequest]]) -> list[str]:
        jobs = [self.jobs.add(stored(spec), request.owner, request.project) for spec, request in bulk]
        try:
            items = [self.sent.job(job) for job in jobs]
            for item, (spec, _) in zip(items, bulk, strict=True):
                item["specification"]["resources"] = self.sent.values(spec["resources"])
            replies = self.calls.bulk("create", items, bulk[0][1].owner, says_something=True)
            self._confirm({job.id: self._generated(reply) for job, reply in zip(jobs, replies, strict=True)})
        except BaseException:
            self.jobs.remove(job.id for job in jobs)
            raise
        return [job.id for job in jobs]

    def _generated(self, reply: Json | None) -> str | None:
        id_ = None if reply is None else reply.get("id")
        if reply is not None and not isinstance(id_, str):
            self._complain_of_create("a response is neither null nor has an id")
            raise CoreError(502, "Invalid response from provider")
        return id_

    def _confirm(self, generated: dict[str, str | None]) -> None:
        try:
            self.jobs.confirm(generated)
        except CoreError as error:
            if self.era.is_fatal:
                self._complain_of_create(f"Core has ended: {error.why}")
                self.complaints.end(f"{self.calls.about_jobs('create')}: {error.why}")
            raise

    def _complain_of_create(self, sentence: str) -> None:
        self.complaints.add(f"{self.calls.about_jobs('create')}: {sentence}")
