"""From a job of UCloud's to a batch job of Slurm's."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ucloud_slurm.bridge import naming
from ucloud_slurm.bridge.drives import DriveRoot
from ucloud_slurm.bridge.naming import JobPaths, LocalUser
from ucloud_slurm.bridge.script.containers import container
from ucloud_slurm.bridge.script.environment import Pieces
from ucloud_slurm.bridge.script.inputs import input_files
from ucloud_slurm.bridge.script.invocation import arguments, environment, parameter_texts, refuse_unprintable
from ucloud_slurm.bridge.script.launch import ProgramLaunch, warning_signal
from ucloud_slurm.bridge.script.resources import Layout, Plan, layout
from ucloud_slurm.bridge.script.software import Software
from ucloud_slurm.bridge.script.text import ScriptParts, script_text
from ucloud_slurm.bridge.template.inputs import chosen_modules, other_elements, render_request, ucloud_facts
from ucloud_slurm.bridge.template.messages import Render, Request, WebPage
from ucloud_slurm.config import ApplicationsSection, ContainersSection, FilesRoot, Product
from ucloud_slurm.errors import Refused, one_line
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.ucloud.applications import Application, Invocation
from ucloud_slurm.ucloud.jobs import Job

LISTENING = frozenset({"WEB", "VNC"})  # types of applications that need a port
NO_CONTAINERS = ContainersSection()
NO_APPLICATION_RULES = ApplicationsSection()


def batch_job(
    job: Job,
    application: Application,
    product: Product,
    plan: Plan,
    user: LocalUser,
    *,
    provider: str,
    folder: str,
    render: Render,
    applications: ApplicationsSection = NO_APPLICATION_RULES,
    account: str | None = None,
    sessions_url: str | None = None,
    roots: Sequence[FilesRoot | DriveRoot] = (),
    containers: ContainersSection = NO_CONTAINERS,
    modules_init: str | None = None,
    own_words: bool = False,
    listed_modules: Sequence[str] = (),
) -> Submission:
    """Builds the batch job. The same arguments give the same job, byte for byte.

    :param provider: this provider's id at UCloud
    :param folder: where job folders are (``jobs.folder``)
    :param render: renders the templates of an application
    :param applications: what templates may do (``applications``)
    :param account: Slurm account of this job; None: that of the product
    :param sessions_url: where browsers reach web pages of applications (``sessions.url``)
    :param roots: where UCloud's files are (``files``), and the drives that the job names
    :param modules_init: the file that defines ``module`` (``jobs.modules_init``)
    :param own_words: see :func:`ucloud_slurm.bridge.script.invocation.parameter_texts`
    :param listed_modules: modules of the cluster, where they are known
    :raises Refused: naming what is wrong with the job or its application
    """
    invocation, tool = application.invocation, application.description
    account = account or product.account
    paths = JobPaths.of(folder, user, job.id)
    places = {"home": user.home, "user": user.user, "account": account, "project": job.owner.project}
    files = input_files(job, application, roots, places)
    image = container(tool.backend, tool.image or tool.container, containers, files, paths.folder, plan.gres)
    if plan.nodes > 1 and not invocation.allow_multi_node:
        raise Refused("specification.replicas: the application runs on one node only.")
    listens = invocation.application_type in LISTENING
    file_paths = {file.parameter: file.path for file in files if file.parameter is not None}
    texts = parameter_texts(invocation, job.specification.parameters, file_paths, own_words=own_words)
    if invocation.template is None:
        program = _command(invocation, texts, plan)
    else:
        request = render_request(
            job, application, product, plan, file_paths, applications, listens=listens, in_container=image is not None
        )
        program = _script(application, texts, plan, request, render, applications)
    unnamed = len({"nodes", "ntasks-per-node"}.intersection(product.omit))
    if unnamed and program.layout.tasks > 1:
        raise Refused(f"The application asks for several tasks on a node, and jobs on {product.id} have one (products.omit).")
    if unnamed == 2 and plan.nodes > 1:
        raise Refused(f"specification.replicas: jobs on {product.id} run on one node only (products.omit).")
    _check_pages(program.pages, plan, sessions_url)
    cpus = None if "cpus-per-task" in product.omit else program.layout.cpus
    launch = ProgramLaunch(
        paths=paths,
        nodes=plan.nodes,
        cpus=cpus,
        multi_node=invocation.allow_multi_node,
        listens=listens,
        warned=product.signal is not None,
        epilogue=product.epilogue,
        scripted=program.body is not None and image is None,
    )
    facts = {**program.facts, **_job_facts(job, product, plan, provider, paths)}
    if listens:
        facts["UCLOUD_BASE_PATH"] = naming.base_path(sessions_url, job.id, 0)
    loads = [(software.name, software.version) for software in tool.load_instructions.applications]
    modules = Software.of(applications, listed_modules).modules([*loads, *program.loaded], program.policies)
    script = script_text(
        ScriptParts(
            facts=facts,
            modules=[*tool.required_modules, *dict.fromkeys((*modules, *chosen_modules(job)))],
            modules_init=modules_init,
            prologue=product.prologue,
            inputs=files,
            container=image,
            variables=program.variables,
            command=program.command,
            launch=launch,
            body=program.body,
        )
    )
    return Submission(
        user=user.user, name=naming.slurm_name(job), comment=naming.comment(provider, job.id), script=script,
        partition=product.partition, nodes=plan.nodes, cpus=cpus, memory=plan.memory, gres=plan.gres,
        minutes=plan.minutes, account=account, qos=product.qos, constraint=product.constraint,
        reservation=product.reservation, folder=paths.folder, output=paths.log("stdout", 0),
        error=paths.log("stderr", 0), exclusive=product.exclusive, signal=warning_signal(product, launch),
        more=(*product.options, *program.layout.more), tasks=program.layout.tasks, omit=product.omit,
        pages=tuple((page.rank, page.name, page.port) for page in program.pages),
    )  # fmt: skip


class _ApplicationRun(NamedTuple):
    """What an application runs.

    :ivar variables: environment variables that it sets
    :ivar command: its program and arguments; empty for a script
    :ivar body: its script, in bash
    :ivar loaded: name and version of software that it loads besides that of its tool
    :ivar policies: which versions may be taken; see :meth:`.software.Software.modules`
    :ivar facts: further variables that describe the job
    :ivar pages: further web pages
    """

    variables: Mapping[str, Pieces]
    command: Sequence[str]
    body: str | None
    layout: Layout
    loaded: Sequence[tuple[str, str]]
    policies: Mapping[str, str]
    facts: Mapping[str, str]
    pages: Sequence[WebPage] = ()


def _command(invocation: Invocation, texts: Mapping[str, str], plan: Plan) -> _ApplicationRun:
    """An application that is a program with arguments."""
    refuse_unprintable(invocation, texts)
    variables, command = environment(invocation, texts), arguments(invocation, texts)
    return _ApplicationRun(variables, command, None, Layout(1, plan.cpus, ()), (), {}, {})


def _script(
    application: Application,
    texts: Mapping[str, str],
    plan: Plan,
    request: Request,
    render: Render,
    settings: ApplicationsSection,
) -> _ApplicationRun:
    """An application that is a script, rendered from its template."""
    try:
        others = other_elements(application.invocation, texts)
        rendered = render(request)
        variables: dict[str, Pieces] = {name: [("text", text)] for name, text in rendered.environment.items()}
        return _ApplicationRun(
            variables=dict(sorted((variables | dict(others.environment)).items())),
            command=(),
            body=rendered.script,
            layout=layout({**others.sbatch, **rendered.sbatch}, settings.sbatch_options, plan),
            loaded=rendered.loaded,
            policies=rendered.policies,
            pages=rendered.pages,
            facts=ucloud_facts(request.ucloud),
        )
    except Refused as refusal:
        named = one_line(f"{application.metadata.name} {application.metadata.version}", 100)
        raise Refused(f"The application {named} cannot be started: {refusal.why}") from None


def _check_pages(pages: Sequence[WebPage], plan: Plan, sessions_url: str | None) -> None:
    """Refuses further web pages that no browser could reach.

    :raises Refused: says why
    """
    if pages and (sessions_url is None or sessions_url.endswith("*")):
        raise Refused("The application announces further web pages, which need a host name for each (sessions.url).")
    for page in pages:
        if page.rank >= plan.nodes:
            raise Refused(f"The application announces the page {page.name} on node {page.rank}, and the job has {plan.nodes}.")


def _job_facts(job: Job, product: Product, plan: Plan, provider: str, paths: JobPaths) -> dict[str, str]:
    """The environment variables that describe the job."""
    facts = {
        "UCLOUD_JOB_ID": job.id,
        "UCLOUD_PROVIDER": provider,
        "UCLOUD_JOB_FOLDER": paths.folder,
        "UCLOUD_PRODUCT": product.id,
        "UCLOUD_REPLICAS": str(plan.nodes),
        "UCLOUD_NODES": str(plan.nodes),
        "UCLOUD_RANK": "0",
    }
    if plan.minutes is not None:
        facts["UCLOUD_TIME_LIMIT"] = str(plan.minutes)
    return facts
