"""What jobs try from the nodes that they run on, and with the files that they write."""

import re
from collections.abc import Callable

from tests.sandbox.attack.model import Actor, Attack, Outcome, attacks_of, held, verdict
from tests.sandbox.attack.people import ALICE, BOB
from tests.sandbox.attack.stage import Stage

NOTHING = "not shown"
# What a job leaves in the place of its own log. {log} is the log, {bob} a file that only bob can read.
LOGS = {
    "log-is-a-link-to-shadow": ("makes its log a link to /etc/shadow", "ln -sf /etc/shadow {log}"),
    "log-is-a-link-to-another": ("makes its log a link to a file of another's", "ln -sf {bob} {log}"),
    "log-is-a-hard-link": ("makes its log a hard link to a file of another's", "ln -f {bob} {log} || rm -f {log}"),
    "log-is-a-pipe": ("makes its log a pipe", "rm -f {log}; mkfifo {log}"),
    "log-is-a-device": ("makes its log a device without an end", "ln -sf /dev/zero {log}"),
    "log-is-a-folder": ("makes its log a folder", "rm -f {log}; mkdir {log}"),
    "log-is-itself": ("makes its log a link to itself", "rm -f {log}; ln -s {log} {log}"),
    "log-is-in-proc": ("makes its log a link to the memory of the reader", "ln -sf /proc/self/mem {log}"),
}


def _log(name: str) -> Callable[[Stage], Outcome]:
    _, make = LOGS[name]

    def play(stage: Stage) -> Outcome:
        secret = stage.home("bob") / "secret"
        stage.living.run("bash", "-c", f"umask 077; echo the secret of bob > {secret}", user="bob")
        job = stage.job(ALICE)
        log = stage.folder(ALICE, job) / "stdout-0.log"
        stage.living.run("bash", "-c", make.format(log=log, bob=secret), user="alice")
        shown = stage.shown(ALICE, job, 2.0, until=NOTHING)
        stage.living.run("bash", "-c", f"rm -rf {log}; touch {log}", user="alice")
        wrong = re.search(r"the secret of bob|root:.*:|\0\0\0\0", shown)
        got = "a notice that it is not shown" if NOTHING in shown else "nothing"
        return verdict(got, f"{wrong[0][:30]!r} was shown" if wrong else "", stage.lives(3))

    play.name = name  # type: ignore[attr-defined]
    return play


def log_is_a_terabyte(stage: Stage) -> Outcome:
    """A sparse log of a terabyte."""
    log = stage.folder(ALICE, stage.job(ALICE)) / "stdout-0.log"
    before = stage.vitals().memory()
    stage.living.run("bash", "-c", f"truncate -s 1T {log} || truncate -s 100G {log}; echo the-end >> {log}", user="alice")
    with stage.core.follow(stage.job(ALICE), ALICE):
        slow = stage.lives(20)
        grown = stage.vitals().memory() - before
    stage.living.run("truncate", "-s", "0", str(log), user="alice")
    return verdict(f"memory grew by {grown:.0f} MiB", slow, f"memory grew by {grown:.0f} MiB" if grown > 100 else "")


def log_is_replaced_all_the_time(stage: Stage) -> Outcome:
    """A log that is another file each millisecond."""
    job = stage.job(ALICE)
    log = stage.folder(ALICE, job) / "stdout-0.log"
    loop = f"for i in $(seq 1500); do echo $i > {log}.n; mv {log}.n {log}; done; touch {log}"
    with stage.core.follow(job, ALICE), stage.typing() as echoes:
        stage.living.run("bash", "-c", loop, user="alice")
        slow = stage.lives(10)
    worst = max(echoes, default=0.0)
    return verdict("nothing but work for its own reader", slow, f"keys took {worst:.1f} s" if worst > 10 * stage.echo else "")


def log_floods(stage: Stage) -> Outcome:
    """A log that grows as fast as the disk takes it, with readers."""
    job = stage.job(ALICE)
    log = stage.folder(ALICE, job) / "stdout-0.log"
    before = stage.vitals().memory()
    followed = [stage.core.follow(job, ALICE) for _ in range(5)]
    try:
        stage.living.run("bash", "-c", f"timeout 2 yes | head -c 30000000 >> {log}; true", user="alice")
        slow = stage.lives(20)
        grown = stage.vitals().memory() - before
    finally:
        for each in followed:
            each.close()
    stage.living.run("truncate", "-s", "0", str(log), user="alice")
    return verdict(f"memory grew by {grown:.0f} MiB", slow, f"memory grew by {grown:.0f} MiB" if grown > 200 else "")


def log_of_a_terminal(stage: Stage) -> Outcome:
    """Escape sequences, NUL and broken characters in a log: data for its reader, and none for the journal."""
    job = stage.job(ALICE)
    log = stage.folder(ALICE, job) / "stdout-0.log"
    stage.living.run(
        "bash", "-c", f"printf '\\033[2J\\033]0;root\\007\\0\\377\\xed\\xa0\\x80end-of-it\\n' >> {log}", user="alice"
    )
    shown = stage.shown(ALICE, job, 5.0, until="end-of-it")
    journal = "\n".join(stage.living.journal("ucloud-slurm.service"))
    return verdict(
        "the same text in its own log",
        "" if "end-of-it" in shown else "its reader saw nothing",
        "the journal has escape sequences" if "\033" in journal or "\\033" in journal else "",
    )


def secrets_of_the_service(stage: Stage) -> Outcome:
    """Everything that a job is given: environment, arguments, descriptors, its script, what Slurm tells of it."""
    script = (
        "env; tr '\\0' '\\n' < /proc/self/cmdline; ls -l /proc/$$/fd; "
        "cat \"$0\" /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n'; "
        "scontrol show job $SLURM_JOB_ID; cat ~/ucloud-jobs/*/*.sh; scontrol show config"
    )
    said = stage.output(ALICE, script)
    found = [secret for secret in stage.secrets if secret in said]
    descriptors = [line for line in said.splitlines() if re.search(r"-> (socket|anon_inode|.*ucloud-slurm\.db)", line)]
    wrong = f"a secret stands in what a job gets ({len(found)})" if found else ""
    return verdict("none of the service's secrets or descriptors", wrong, f"descriptors: {descriptors}" if descriptors else "")


def limits_of_the_service(stage: Stage) -> Outcome:
    """A job has the limits of its user, not those that the service has raised for itself."""
    hard = stage.output(ALICE, "ulimit -Sn; ulimit -Hn; ulimit -Su; ulimit -Sc").split()
    own = stage.cluster.run("bash", "-c", "ulimit -Sn; ulimit -Hn", user="alice").split()
    given = [int(each) for each in hard[:2] if each.isdigit()]
    mine = [int(each) for each in own if each.isdigit()]
    same = all(left <= right for left, right in zip(given, mine, strict=False))
    return held(f"descriptors {given}, as its user") if same else verdict("", f"descriptors {given}; its user has {mine}")


def reach_the_service(stage: Stage) -> Outcome:
    """Connects from the node to the ports at which the service or its neighbours listen, and reads its files."""
    ports = stage.ports()
    tries = "; ".join(f"(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo port-{port}-open" for port in ports) or "true"
    files = "cat /etc/ucloud-slurm/* /var/lib/ucloud-slurm/* /run/ucloud-slurm*/* 2>/dev/null"
    said = stage.output(ALICE, f"{tries}; {files}")
    found = re.findall(r"port-\d+-open", said)
    secret = [each for each in stage.secrets if each in said]
    return verdict(
        "no port, no socket, no file",
        f"a job can connect to the service ({', '.join(found)})" if found else "",
        "a job read a secret" if secret else "",
    )


def another_jobs_name(stage: Stage) -> Outcome:
    """Gives itself the name and the comment of a job of somebody else."""
    job = stage.job(BOB)
    query = ["squeue", "--noheader", f"--name=ucloud-{job}", "--user=bob", "--format=%A %k"]
    number, _, comment = stage.cluster.run(*query).strip().partition(" ")
    mine = stage.cluster.run("squeue", "--noheader", "--user=alice", "--format=%A").split()[0]
    stage.cluster.run(
        "bash", "-c", f"scontrol update JobId={mine} JobName=ucloud-{job} Comment='{comment}' || true", user="alice"
    )
    wrap = ["sbatch", "--parsable", f"--job-name=ucloud-{job}", f"--comment={comment}", "--wrap=sleep 30"]
    stage.cluster.run(*wrap, user="alice")
    stage.living.systemctl("start", "ucloud-slurm-worker.service", check=False)
    shown = stage.living.run("/opt/ucloud-slurm/bin/ucloud-slurm", "show", job, "--json", user=stage.cluster.service_user)
    state = stage.core.job(job).state
    return verdict(
        "bob's job is still bob's",
        "" if number and re.search(rf"\b{number}\b", shown) else "bob's job is another one now",
        "" if state == "RUNNING" else f"bob's job is {state}",
    )


ATTACKS: tuple[Attack, ...] = attacks_of(
    Actor.JOB,
    ("looks for secrets in everything that it gets", secrets_of_the_service),
    ("looks for limits that the service has raised", limits_of_the_service),
    ("connects to the service and reads its files", reach_the_service),
    ("takes the name of somebody else's job", another_jobs_name),
    *((LOGS[name][0], _log(name)) for name in LOGS),
    ("writes a log of a terabyte", log_is_a_terabyte),
    ("replaces its log each millisecond", log_is_replaced_all_the_time),
    ("writes its log as fast as it can", log_floods),
    ("writes escape sequences into its log", log_of_a_terminal),
    slow={
        *(set(LOGS) - {"log-is-a-link-to-another", "log-is-a-pipe"}),
        "log-is-replaced-all-the-time",
        "log-floods",
        "log-is-a-terabyte",
    },
)
