"""What researchers try at UCloud: values, names and files that are more than they seem."""

from typing import Any

from tests.sandbox.attack.inputs import FOLDERS, LINES, OWNERS, TEXTS
from tests.sandbox.attack.model import Actor, Attack, Outcome, attacks_of, verdict
from tests.sandbox.attack.people import ALICE, BOB, FAILURES, PATIENCE
from tests.sandbox.attack.stage import Stage
from tests.sandbox.core.applications import application, parameter, var, word
from tests.sandbox.core.errors import CoreError
from tests.sandbox.processes import wait_until

MARKER = "/var/tmp/ucloud-slurm-attack-marker"


def hostile(text: str) -> str:
    """A hostile text of the lists, with the file that must never appear."""
    return text.replace("{marker}", MARKER).replace("{{", "{").replace("}}", "}")


def _marker(stage: Stage) -> str:
    found = stage.living.run("bash", "-c", f"ls -d {MARKER}* 2>/dev/null; rm -rf {MARKER}*", check=False)
    here = stage.cluster.run("bash", "-c", f"ls -d {MARKER}* 2>/dev/null; rm -rf {MARKER}*; true")
    return "a value was run" if found or here else ""


def _submit(stage: Stage, name: str, words: list[dict[str, Any]], values: dict[str, str], **more: Any) -> str:
    app = application(name, "1", words, [parameter(each, "text") for each in values], **more)
    stage.core.catalogue.add_application(app)
    given = {each: {"type": "text", "value": value} for each, value in values.items()}
    return stage.core.submit(application=(name, "1"), product="example-compute-1", owner=ALICE, parameters=given)


def hostile_values(stage: Stage) -> Outcome:
    """Every hostile value in one job, which prints them as they came."""
    values = {f"value{number}": hostile(text) for number, text in enumerate(TEXTS)}
    job = _submit(stage, "hostile-values", [word("printf"), word("%s\\0"), *(var(name) for name in values)], values)
    log = stage.folder(ALICE, job) / "stdout-0.log"
    wanted = "".join(f"{value}\0" for value in values.values()).encode()
    wait_until("the job prints", lambda: log.is_file() and log.stat().st_size >= len(wanted), seconds=PATIENCE)
    same = log.read_bytes() == wanted
    return verdict(f"{len(values)} values arrived byte for byte", "" if same else "a value arrived changed", _marker(stage))


def values_with_lines(stage: Stage) -> Outcome:
    """Values with a newline, NUL or control character, which could begin a line of the script."""
    accepted = []
    for number, text in enumerate(LINES):
        try:
            _submit(stage, f"hostile-line-{number}", [word("printf"), word("%s"), var("value")], {"value": hostile(text)})
            accepted.append(f"{text!r} was accepted")
        except CoreError as error:
            accepted += [f"{text!r} was answered with {error.status}"] if error.status >= 500 and error.status != 502 else []
    return verdict(f"{len(LINES)} values, each refused", *accepted, _marker(stage))


def hostile_names(stage: Stage) -> Outcome:
    """Hostile names of jobs, variables and modules."""
    texts = [hostile(text) for text in (*TEXTS[:-1], *LINES)]
    statuses = set()
    for number, text in enumerate(texts[::3]):
        app = application(f"hostile-name-{number}", "1", [word("true")], environment={text: word("x")})
        stage.core.catalogue.add_application(app)
        try:
            stage.core.submit(application=(f"hostile-name-{number}", "1"), product="example-compute-1", owner=ALICE, name=text)
            statuses.add(200)
        except CoreError as error:
            statuses.add(error.status)
    wrong = statuses - {400, 403}
    return verdict("none was accepted", f"answered with {sorted(wrong)}" if wrong else "", _marker(stage))


def names_like_others(stage: Stage) -> Outcome:
    """Users of UCloud whose names resemble those of others."""
    accepted = []
    for owner in OWNERS:
        try:
            job = stage.core.submit(application=("waiter", "1"), product="example-compute-1", owner=owner)
            accepted.append(f"{owner!r} started job {job}")
        except FAILURES as error:
            accepted += [f"{owner!r}: {error}"] if "500" in str(error) else []
    return verdict(f"{len(OWNERS)} names, each refused", *accepted)


def somebody_elses_job(stage: Stage) -> Outcome:
    """Follow, open and cancel a job of somebody else by its id; UCloud itself forbids that, and so do we."""
    job, got = stage.job(BOB), []
    stage.living.run("bash", "-c", f"echo bobs-log >> {stage.folder(BOB, job)}/stdout-0.log", user="bob")
    got += ["its log"] if "bobs-log" in stage.shown(ALICE, job, 2.0) else []
    try:
        opened = stage.core.open_session(job, user=ALICE) or {}
        with stage.core.shell(opened, user=ALICE):
            got.append("a shell in it")
    except FAILURES:
        pass
    return verdict("neither its log nor a shell", f"alice got {', '.join(got)}" if got else "")


def folders_that_are_something_else(stage: Stage) -> Outcome:
    """The folder of a job that will come is a link, a pipe or a file."""
    known = int(stage.submit(ALICE))
    used = []
    for number, make in enumerate(FOLDERS):
        job = known + 1 + number
        folder = stage.folder(ALICE, str(job))
        made = make.format(folder=folder, bob=stage.home("bob"))
        stage.living.run("bash", "-ec", made, user="alice")
        try:
            came = stage.submit(ALICE)
            used.append(f"{make.split()[0]} was used") if came == str(job) else None
        except CoreError as error:
            used += [f"answered with {error.status} {error.why}"] if "folder" not in error.why else []
    return verdict(f"{len(FOLDERS)} of them, none used", *used)


ATTACKS: tuple[Attack, ...] = attacks_of(
    Actor.RESEARCHER,
    ("gives values that a shell would run", hostile_values),
    ("gives values that would be lines of the script", values_with_lines),
    ("gives hostile names to jobs and variables", hostile_names),
    ("has a name that resembles another's", names_like_others),
    ("follows and opens somebody else's job", somebody_elses_job),
    ("puts something else in the place of a folder", folders_that_are_something_else),
)
