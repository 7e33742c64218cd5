"""From a Job of UCloud's to a batch job of Slurm's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ucloud_slurm.bridge import naming
from ucloud_slurm.bridge.person import Person
from ucloud_slurm.bridge.script import invocation as command_line
from ucloud_slurm.bridge.script.bash import refuse_control_characters
from ucloud_slurm.bridge.script.containers import container
from ucloud_slurm.bridge.script.environment import Pieces
from ucloud_slurm.bridge.script.inputs import inputs
from ucloud_slurm.bridge.script.launch import Launch, warning
from ucloud_slurm.bridge.script.resources import Layout, Plan, layout
from ucloud_slurm.bridge.script.text import Parts, log, script
from ucloud_slurm.bridge.template import inputs as template_inputs
from ucloud_slurm.bridge.template.messages import Render, Request
from ucloud_slurm.config import ApplicationsSection, ContainersSection, FilesRoot, Product
from ucloud_slurm.errors import Refused, one_line
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.ucloud.applications import Application, Invocation
from ucloud_slurm.ucloud.jobs import Job

LISTENING = frozenset({"WEB", "VNC"})
NO_CONTAINERS = ContainersSection()
AS_USUAL = ApplicationsSection()


@dataclass(frozen=True, slots=True)
class Started:
    """How an application is started.

    :ivar command: its program and its arguments; none for a script
    :ivar body: its script
    :ivar modules: what it loads beside those of its tool
    :ivar facts: further variables that say what UCloud knows of the job
    """

    variables: Mapping[str, Pieces]
    command: Sequence[str]
    body: str | None
    layout: Layout
    modules: Sequence[str]
    facts: Mapping[str, str]


def batch_job(
    job: Job,
    application: Application,
    product: Product,
    plan: Plan,
    person: Person,
    *,
    provider: str,
    folder: str,
    render: Render,
    applications: ApplicationsSection = AS_USUAL,
    account: str | None = None,
    sessions_url: str | None = None,
    roots: Sequence[FilesRoot] = (),
    containers: ContainersSection = NO_CONTAINERS,
    modules_init: str | None = None,
    own_words: bool = False,
) -> Submission:
    """Builds the batch job. The same arguments give the same job, byte for byte.

    :param provider: our id at UCloud
    :param folder: where job folders are (``jobs.folder``)
    :param render: what renders templates
    :param applications: what templates may do (``applications``)
    :param account: Slurm account of this job; None: that of the product
    :param sessions_url: where browsers reach web pages of applications (``sessions.url``)
    :param roots: where UCloud's files are (``files``)
    :param modules_init: the file that defines ``module`` (``jobs.modules_init``)
    :param own_words: see :func:`ucloud_slurm.bridge.script.invocation.values`
    :raises Refused: naming what is wrong with the job or its application
    """
    invocation, tool = application.invocation, application.description
    account = account or product.account
    own_folder = naming.folder(folder, person.home, person.user, job.id)
    places = {"home": person.home, "user": person.user, "account": account, "project": job.owner.project}
    found = inputs(job, application, roots, places)
    image = container(tool.backend, tool.image or tool.container, containers, found, own_folder, plan.gres)
    if plan.nodes > 1 and not invocation.allow_multi_node:
        raise Refused("specification.replicas: the application runs on one node only.")
    paths = {one.parameter: one.path for one in found if one.parameter is not None}
    listens = invocation.application_type in LISTENING
    texts = command_line.values(invocation, job.specification.parameters, paths, own_words=own_words)
    if invocation.template is None:
        started = _command(invocation, job, texts, plan)
    else:
        asked = template_inputs.request(
            job, application, product, plan, paths, applications, listens=listens, in_container=image is not None
        )
        try:
            started = _script(invocation, job, texts, plan, asked, render, applications)
        except Refused as refusal:
            named = f"{application.metadata.name} {application.metadata.version}"
            raise Refused(f"The application {one_line(named, 100)} cannot be started: {refusal.why}") from None
    launch = Launch(
        folder=own_folder,
        nodes=plan.nodes,
        cpus=started.layout.cpus,
        multi_node=invocation.allow_multi_node,
        listens=listens,
        warned=product.signal is not None,
        epilogue=product.epilogue,
        scripted=started.body is not None and image is None,
    )
    facts = {**started.facts, **_facts(job, product, plan, provider, own_folder)}
    if launch.listens:
        facts["UCLOUD_BASE_PATH"] = naming.base_path(sessions_url, job.id, 0)
    own = template_inputs.loaded([(one.name, one.version) for one in tool.load_instructions.applications], applications)
    text = script(
        Parts(
            facts=facts,
            modules=[*tool.required_modules, *dict.fromkeys((*own, *started.modules))],
            modules_init=modules_init,
            prologue=product.prologue,
            inputs=found,
            container=image,
            variables=started.variables,
            command=started.command,
            launch=launch,
            body=started.body,
        )
    )
    return Submission(
        user=person.user,
        name=naming.slurm_name(job),
        comment=naming.comment(provider, job.id),
        script=text,
        partition=product.partition,
        nodes=plan.nodes,
        cpus=started.layout.cpus,
        memory=plan.memory,
        gres=plan.gres,
        minutes=plan.minutes,
        account=account,
        qos=product.qos,
        constraint=product.constraint,
        reservation=product.reservation,
        folder=own_folder,
        output=log(own_folder, "stdout", 0),
        error=log(own_folder, "stderr", 0),
        exclusive=product.exclusive,
        signal=warning(product, launch),
        more=(*product.options, *started.layout.more),
        tasks=started.layout.tasks,
    )


def _command(invocation: Invocation, job: Job, texts: Mapping[str, str], plan: Plan) -> Started:
    """An application that is a program with its arguments."""
    for name, text in texts.items():
        refuse_control_characters(f"The parameter '{name}'", [text])
    variables, command = command_line.environment(invocation, texts), command_line.words(invocation, texts)
    return Started(variables, command, None, Layout(1, plan.cpus, ()), template_inputs.chosen_modules(job), {})


def _script(
    invocation: Invocation,
    job: Job,
    texts: Mapping[str, str],
    plan: Plan,
    asked: Request,
    render: Render,
    settings: ApplicationsSection,
) -> Started:
    """An application that is a script, made by its template."""
    rest = template_inputs.rest(invocation, texts)
    rendered = render(asked)
    variables: dict[str, Pieces] = {name: [("text", text)] for name, text in rendered.environment.items()}
    variables.update(rest.environment)
    return Started(
        variables=dict(sorted(variables.items())),
        command=(),
        body=rendered.script,
        layout=layout({**rest.sbatch, **rendered.sbatch}, settings.sbatch_options, plan),
        modules=[*template_inputs.loaded(rendered.loaded, settings), *template_inputs.chosen_modules(job)],
        facts=template_inputs.facts(asked.ucloud),
    )


def _facts(job: Job, product: Product, plan: Plan, provider: str, folder: str) -> dict[str, str]:
    """What the job's environment says of the job."""
    facts = {
        "UCLOUD_JOB_ID": job.id,
        "UCLOUD_PROVIDER": provider,
        "UCLOUD_JOB_FOLDER": folder,
        "UCLOUD_PRODUCT": product.id,
        "UCLOUD_REPLICAS": str(plan.nodes),
        "UCLOUD_NODES": str(plan.nodes),
        "UCLOUD_RANK": "0",
    }
    if plan.minutes is not None:
        facts["UCLOUD_TIME_LIMIT"] = str(plan.minutes)
    return facts
