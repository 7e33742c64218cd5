"""``check``: whether Slurm would take the jobs of every product, asked as jobs are submitted."""

import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, NamedTuple

from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.bridge.script.build import batch_job
from ucloud_slurm.bridge.script.resources import plan
from ucloud_slurm.bridge.template.messages import Rendered, Request
from ucloud_slurm.cli.check_accounts import MOST_NAMED, impersonation, people, slurm_account_of
from ucloud_slurm.cli.checking import Budget, open_core
from ucloud_slurm.cli.output import Line
from ucloud_slurm.config import Config, Product
from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, Misconfigured, NotNow, Problem, Refused
from ucloud_slurm.slurm.errors import ActionRefusedError, SubmissionRefusedError
from ucloud_slurm.slurm.records import Partition, Submission
from ucloud_slurm.slurm.trial import Trial
from ucloud_slurm.ucloud.applications import Application
from ucloud_slurm.ucloud.eras import ERAS
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.products import ComputeProduct, ProductReference
from ucloud_slurm.ucloud.wire import from_data

TRIALS_SECONDS = 30.0  # for all people
MOST_IN_VAIN = 3  # people who are tried with every product before the products are said to be wrong
UCLOUD_SECONDS = 3.0

# What a site configures, and what a submission is without it. Where Slurm answers something else then, that is it.
KEYS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("account", {"account": None}),
    ("qos", {"qos": None}),
    ("reservation", {"reservation": None}),
    ("constraint", {"constraint": None}),
    ("gres", {"gres": None}),
    ("memory_gb", {"memory": None}),
    ("cpus", {"cpus": None}),
    ("options", {"more": ()}),
    ("exclusive", {"exclusive": False}),
    ("time_max", {"minutes": None}),
    ("signal", {"signal": None}),
)
# Slurm would keep such a job waiting.
WAITS = ("not available", "inactive or drain", "down, drained", "busy")


def jobs(
    config: Config,
    trial: Trial,
    partitions: Mapping[str, Partition],
    unfit: Collection[str],
    budget: Budget,
    *,
    plugins: str | None = None,
) -> Iterator[Line]:
    """Tries the products that have a partition, as people or as the service.

    :param unfit: people whom Slurm is known to refuse
    :param plugins: those that may change jobs, where a held job could be cancelled (slurm.conf(5): JobSubmitPlugins)
    """
    products = [product for product in config.products if product.partition in partitions]
    candidates = [person for person in people(config) if person.user not in unfit]
    if not candidates or not products:
        yield "warning", "no job was tried: there is nobody, or no partition, to try it with"
        return
    trials = _Trials(config, trial, partitions, _sizes(config, products), budget)
    yield from trials.run(candidates, products)
    for product in products:
        why = trials.misfit(product)
        if why is not None and product.id not in trials.refused:
            longer = trials.misfit(replace(product, time_max=None)) is None
            yield "failed", f"product {product.id}: {'time_max: ' if longer else ''}{why}"
    if trials.accepted is not None and plugins is not None:
        yield from trials.held(*trials.accepted, plugins)


class _Answer(NamedTuple):
    """What Slurm said to the jobs of a person.

    :ivar refusals: why not, by product; None where it would take the job
    """

    person: LocalUser
    refusals: Mapping[str, str | None]


class _Trials:
    """The trials of one check.

    :ivar refused: the products whose jobs are refused
    :ivar accepted: a person and a product whose job Slurm would take, or keep waiting
    """

    def __init__(
        self,
        config: Config,
        trial: Trial,
        partitions: Mapping[str, Partition],
        sizes: Mapping[str, ComputeProduct],
        budget: Budget,
    ) -> None:
        """Asks nothing yet.

        :param sizes: of products, as UCloud has them, where they are not configured
        """
        self._config = config
        self._trial = trial
        self._partitions = partitions
        self._sizes = sizes
        self._budget = budget
        self.refused: set[str] = set()
        self.accepted: tuple[LocalUser, Product] | None = None

    def run(self, candidates: Sequence[LocalUser], products: Sequence[Product]) -> Iterator[Line]:
        """All products with the first person who can run jobs, one with each of the others while there is time."""
        until = time.monotonic() + TRIALS_SECONDS
        in_vain: list[_Answer] = []
        failed: list[str] = []
        tried = 0
        for person in candidates:
            if tried and (time.monotonic() > until or self._budget.remains < 1):
                break
            if self.accepted is None and len(in_vain) == MOST_IN_VAIN:
                break
            self._budget.show(f"jobs as {person.user}")
            wanted = products if self.accepted is None else [self.accepted[1]]
            tried += 1
            try:
                answer = _Answer(person, {product.id: self._refusal(person, product) for product in wanted})
            except (NotNow, Problem) as error:
                failed.append(f"no job was tried as {person.user}: {error}")
                continue
            works = next((product for product in wanted if answer.refusals[product.id] is None), None)
            if works is None:
                in_vain.append(answer)
            elif self.accepted is None:
                self.accepted = person, works
                yield from self._products(answer, products)
        if self.accepted is None and in_vain:
            yield from self._products(in_vain.pop(0), products)
        lines = [self._person(answer, products) for answer in in_vain]
        yield from (("warning", text) for text in (failed + lines)[:MOST_NAMED])
        if len(failed + lines) > MOST_NAMED:
            yield "warning", f"and {len(failed + lines) - MOST_NAMED} more as whom no job can run"
        if tried < len(candidates):
            yield "ok", f"jobs were tried as {tried} of {len(candidates)} users; the others were not tried"

    def _refusal(self, person: LocalUser, product: Product) -> str | None:
        return self._asked(self._submission(person, product))

    def _asked(self, submission: Submission) -> str | None:
        as_user = impersonation(self._config, submission.user).start
        return self._trial.refusal(submission, as_user, self._budget.left())

    def _submission(self, person: LocalUser, product: Product) -> Submission:
        return submission(self._config, product, person, self._sizes.get(product.id))

    def misfit(self, product: Product) -> str | None:
        """Why the provider itself refuses jobs on a product, for the limits of its partition; None if it does not."""
        partition, size = self._partitions[product.partition], self._sizes.get(product.id)
        try:
            plan(*_request(self._config, product), product, size, partition)
        except Refused as refusal:
            return refusal.why
        return None

    def _products(self, answer: _Answer, products: Sequence[Product]) -> Iterator[Line]:
        """The products, by what Slurm said to one person."""
        accepted = [product.id for product in products if answer.refusals[product.id] is None]
        if accepted:
            yield "ok", f"Slurm would take jobs of {answer.person.user} on {', '.join(accepted)}"
        for product in products:
            words = answer.refusals[product.id]
            if words is not None:
                self.refused.add(product.id)
                # Nodes that fit may be out of service at the moment.
                waits = any(each in words for each in WAITS) and self.misfit(product) is None
                if waits and self.accepted is None:
                    self.accepted = answer.person, product
                key = None if waits else self._key(answer.person, product, words)
                yield (
                    "warning" if waits else "failed",
                    f"product {product.id}{f': {key}' if key else ''}: "
                    f"Slurm {'has no node in service for' if waits else 'refuses'} a job of {answer.person.user}: {words}",
                )

    def _person(self, answer: _Answer, products: Sequence[Product]) -> str:
        product = next(each for each in products if answer.refusals.get(each.id))
        words = answer.refusals[product.id] or ""
        return f"jobs of {answer.person.user} are refused, on {product.id} for instance: {words}"

    def _key(self, person: LocalUser, product: Product, words: str) -> str | None:
        """The key that Slurm refuses the jobs of a product for: without it, it would say something else."""
        given = self._submission(person, product)
        for key, without in KEYS:
            other = given._replace(**without)
            if other == given:
                continue
            try:
                changed = self._asked(other) != words
            except NotNow:
                return None
            if changed:
                return _shown(key, product, given)
        # Nothing that could be left out; or another default of the site is refused.
        named = next((key for key in ("account", "qos", "reservation", "partition") if key in words.lower()), None)
        return None if named is None else _shown(named, product, given)

    def held(self, person: LocalUser, product: Product, plugins: str) -> Iterator[Line]:
        """What plugins make of a job: one is submitted held, looked at, and cancelled at once."""
        job = self._submission(person, product)._replace(name=f"ucloud-check-{secrets.token_hex(8)}")
        try:
            changes = self._trial.changes(job, impersonation(self._config, person.user).start, self._budget.left())
        except SubmissionRefusedError as refusal:
            yield "failed", f"product {product.id}: Slurm refuses a held job of {person.user}: {refusal.reason}"
        except (NotNow, Problem, ActionRefusedError) as error:
            yield "failed", f"a held job {job.name} may be left in Slurm's queue; cancel it: {error}"
        else:
            if changes:
                yield (
                    "warning",
                    f"JobSubmitPlugins = {plugins} changes jobs on {product.id}: {'; '.join(changes)}. A submission "
                    "without an answer is searched by its name, and use is charged as Slurm allocates it.",
                )
            else:
                yield "ok", f"JobSubmitPlugins = {plugins} leaves jobs on {product.id} as they are submitted"


def submission(config: Config, product: Product, person: LocalUser, size: ComputeProduct | None) -> Submission:
    """The smallest job on a product, built as a job of UCloud's is.

    :param size: what UCloud has of the product
    """
    job, application = _request(config, product)
    return batch_job(
        job,
        application,
        product,
        plan(job, application, product, size, None),  # Slurm is to judge the size
        person,
        provider=config.provider.id,
        folder=config.jobs.folder,
        render=_no_template,
        account=slurm_account_of(config, person),
        sessions_url=config.sessions.url,
        modules_init=config.jobs.modules_init,
    )


def _request(config: Config, product: Product) -> tuple[Job, Application]:
    name = {"name": "check", "version": "1"}
    reference = {"id": product.id, "category": product.category, "provider": config.provider.id}
    specification = {"application": name, "product": reference, "replicas": 1}
    job = {"id": "0", "owner": {"createdBy": "check", "project": None}, "specification": specification}
    program = {"type": "word", "word": "true"}
    application = {"metadata": name, "invocation": {"invocation": [program]}}
    return from_data(Job, job), from_data(Application, application)


def _no_template(_request: Request) -> Rendered:
    raise Refused("The application of the check has no template.")


def _sizes(config: Config, products: Sequence[Product]) -> dict[str, ComputeProduct]:
    """The sizes that UCloud has of the products that leave some out; none where it does not answer."""
    asked = [product for product in products if None in (product.cpus, product.memory_gb, product.gpus)]
    found: dict[str, ComputeProduct] = {}
    with suppress(CoreUnavailableError, CoreRefusedError, Misconfigured), closing(open_core(config, UCLOUD_SECONDS)) as core:
        for product in asked:
            reference = ProductReference(id=product.id, category=product.category, provider=config.provider.id)
            size = core.product(reference, v2=ERAS[config.ucloud.era].has_products_v2)
            if size is not None:
                found[product.id] = size
    return found


def _shown(key: str, product: Product, given: Submission) -> str:
    """A key as it stands in the configuration; only its name where the value comes from elsewhere."""
    if key == "account" and given.account not in (None, product.account):
        return f'users.personal_account, which gives "{given.account}"'
    name = "gpus" if key == "gres" and product.gres is None else key
    value = getattr(product, name)
    if value is None:
        return name
    return f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {str(value).lower()}"
