"""From a Job of UCloud's to a batch job of Slurm's."""

from dataclasses import dataclass

from ucloud_slurm.bridge import naming, words
from ucloud_slurm.bridge.plan import Plan
from ucloud_slurm.bridge.script import log, script
from ucloud_slurm.config import Product
from ucloud_slurm.errors import Refused
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.ucloud.applications import Application
from ucloud_slurm.ucloud.jobs import Job

BACKENDS = frozenset({"NATIVE", "DOCKER"})
LISTENING = frozenset({"WEB", "VNC"})


@dataclass(frozen=True, slots=True)
class Person:
    """The local account that a job runs as, its home folder and its login shell."""

    user: str
    home: str
    shell: str


def batch_job(
    job: Job,
    application: Application,
    product: Product,
    plan: Plan,
    person: Person,
    *,
    provider: str,
    folder: str,
    sessions_url: str | None = None,
) -> Submission:
    """Builds the batch job. The same arguments give the same job, byte for byte.

    :param provider: our id at UCloud
    :param folder: where job folders are (``jobs.folder``)
    :param sessions_url: where browsers reach web pages of applications (``sessions.url``)
    :raises Refused: naming what is wrong with the job or its application
    """
    backend = application.description.backend
    if backend not in BACKENDS:
        raise Refused(f"The application needs {backend}, which this provider does not offer.")
    if job.specification.resources:
        kinds = ", ".join(sorted({resource.type for resource in job.specification.resources}))
        raise Refused(f"specification.resources: this provider cannot attach anything to a job yet ({kinds}).")
    if plan.nodes > 1 and not application.invocation.allow_multi_node:
        raise Refused("specification.replicas: the application runs on one node only.")
    texts = words.values(application.invocation, job.specification.parameters)
    for name, text in texts.items():
        words.refuse_control_characters(f"The parameter '{name}'", [text])
    listens = application.invocation.application_type in LISTENING
    own_folder = naming.folder(folder, person.home, person.user, job.id)
    facts = {
        "UCLOUD_JOB_ID": job.id,
        "UCLOUD_PROVIDER": provider,
        "UCLOUD_JOB_FOLDER": own_folder,
        "UCLOUD_PRODUCT": product.id,
        "UCLOUD_REPLICAS": str(plan.nodes),
    }
    if listens:
        facts["UCLOUD_BASE_PATH"] = naming.base_path(sessions_url, job.id, 0)
    text = script(
        facts=facts,
        variables=words.environment(application.invocation, texts),
        modules=application.description.required_modules,
        command=words.words(application.invocation, texts),
        folder=own_folder,
        nodes=plan.nodes,
        listens=listens,
    )
    return Submission(
        user=person.user,
        name=naming.slurm_name(job),
        comment=naming.comment(provider, job.id),
        script=text,
        partition=product.partition,
        nodes=plan.nodes,
        cpus=plan.cpus,
        memory=plan.memory,
        gres=plan.gres,
        minutes=plan.minutes,
        account=product.account,
        qos=product.qos,
        constraint=product.constraint,
        reservation=product.reservation,
        folder=own_folder,
        output=log(own_folder, "stdout", 0),
        error=log(own_folder, "stderr", 0),
    )
