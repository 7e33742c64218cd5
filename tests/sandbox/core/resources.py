"""What users do with the things around a job today: attached resources, labels, keys, folders."""

from contextlib import suppress
from typing import Any

from tests.sandbox.core.answers import wrong_session
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.parts import CoreParts
from tests.sandbox.core.today.control import with_part

Json = dict[str, Any]


class CoreResources(CoreParts):
    """Calls of Core that came with later eras; a 404 before. Used as :class:`SimulatedCore`."""

    def attach(self, job_id: str, resource: Json, user: str | None = None) -> None:
        """Attach a resource to a running job; it is the job's when the provider has agreed.

        :param resource: AppParameterValue
        :raises CoreError: 400 unless the job runs, and what the provider answered
        """
        self._change_resource("attachResource", job_id, resource, user)
        kept = self.job(job_id).specification.get("resources") or []
        self._jobs.change(job_id, lambda job: with_part(job, resources=[*kept, resource]))

    def detach(self, job_id: str, resource: Json, user: str | None = None) -> None:
        """Take a resource from a running job. See :meth:`attach`."""
        self._change_resource("detachResource", job_id, resource, user)
        kept = [each for each in self.job(job_id).specification.get("resources") or [] if each != resource]
        self._jobs.change(job_id, lambda job: with_part(job, resources=kept))

    def set_labels(self, job_id: str, labels: dict[str, str], user: str | None = None) -> None:
        """Change the labels of a job; a provider that knows no such call (404) is not asked again.

        :raises CoreError: what the provider answered; the labels stay what they were then
        """
        self._later()
        job = self.job(job_id)
        self._jobs.change(job_id, lambda job: with_part(job, labels=dict(labels)))
        call = f"jobs.provider.{self.provider}.onUpdatedLabels"
        try:
            self._calls.for_user(call, {"items": [self._rendered(job)]}, user or job.owner)
        except CoreError as error:
            if error.status != 404:
                before = job.specification.get("labels")
                self._jobs.change(job_id, lambda job: with_part(job, labels=before))
                raise

    def upload_key(self, username: str, title: str, key: str) -> None:
        """Upload an SSH key. What the provider says to it is in ``exchanges`` only."""
        self._later()
        keys = self.directory.add_key(username, title, key)
        call = f"ssh.provider.{self.provider}.keyUploaded"
        with suppress(CoreError):
            self._calls.for_user(call, {"username": username, "allKeys": keys}, username)

    def open_terminal(self, folder: str, user: str = "user") -> Json:
        """Ask for a shell in a folder.

        :param folder: such as ``/1/data``
        :return: the provider's OpenSession, as it came
        :raises CoreError: what the provider answered
        """
        self._later()
        found = self._calls.bulk("openTerminalInFolder", [{"folder": folder}], user, says_something=True)[0]
        if found is None:
            raise CoreError(502, "Invalid response from provider")
        job_id = found.get("jobId")
        for sentence in wrong_session(found, job_id if isinstance(job_id, str) else "", 0, "SHELL"):
            self._complain(f"jobs.provider.{self.provider}.openTerminalInFolder: {sentence}")
        return found

    def _change_resource(self, name: str, job_id: str, resource: Json, user: str | None) -> None:
        self._later()
        job = self.job(job_id)
        if job.state != "RUNNING":
            raise CoreError(400, "The job is not running")
        whole = (self._rendering.values([resource]) or [resource])[0]
        body = {"job": self._rendered(job), "resource": whole}
        self._calls.for_user(f"jobs.provider.{self.provider}.{name}", body, user or job.owner)

    def _later(self) -> None:
        if self.era.job_form == "first":
            raise CoreError(404, "Not found")
