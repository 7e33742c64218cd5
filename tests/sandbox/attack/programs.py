"""What people do to the program that acts as them, and what it could do to the service if it were theirs."""

import pwd
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.sandbox.attack.model import Actor, Attack, Outcome, attacks_of, held, verdict
from tests.sandbox.attack.people import ALICE, BOB, FAILURES, PATIENCE, WAITER
from tests.sandbox.attack.stage import AS_USER, Stage
from tests.sandbox.attack.vitals import Vitals
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import wait_until

MATCH = "ucloud-slurm-as-user"
MANY = 6  # jobs that alice starts at a time
SLACK = 8  # descriptors that come and go in quiet times too
LEFT_SECONDS = 20.0
SHELLS = 6  # in which she types at a time
READ_SECONDS = 3.0  # in which a shell that is none of her own begins, and reads what she types
REAL = f"{AS_USER}.real"
# How a hostile program behaves; the tool hostile_program.py knows the words.
HOSTILE = {
    "feeds-descriptors": ("sends four descriptors with each byte", "feed"),
    "answers-garbage": ("answers with what is no JSON", "garbage"),
    "answers-huge": ("answers with 64 MiB", "huge"),
    "answers-longer": ("says that its answer has 4 GiB", "longer"),
    "answers-deep": ("answers with 100 000 levels of JSON", "deep"),
    "answers-wrong": ("answers with the wrong types and escape sequences", "wrong"),
    "answers-slowly": ("answers with a byte a second", "slow"),
    "answers-nothing": ("does not answer", "silent"),
    "ends-without-an-answer": ("ends instead of answering", "lost"),
    "fills-stderr": ("fills its error output", "stderr"),
    "says-another-hello": ("says garbage instead of its name", "hello"),
    "gives-a-pipe": ("gives a pipe in the place of a log", "pipe"),
    "leaves-descriptors": ("sends a descriptor with each plausible answer", "give"),
    "fills-a-blocking-terminal": ("makes a terminal blocking that takes no input", "full"),
    "blocks-what-it-shares": ("makes all that it shares blocking, and reads it first", "block"),
    "floods-what-it-was-given": ("floods the sockets that it was given", "flood"),
}


@contextmanager
def uses(stage: Stage) -> Iterator[None]:
    """Alice uses the service as much as she can while the block runs, whatever comes of it."""
    job = stage.job(ALICE)

    def types() -> None:
        with suppress(*FAILURES):
            opened = stage.core.open_session(job, user=ALICE)
            with stage.core.shell(opened or {}, user=ALICE) as shell:
                # What is read has an end: slurmstepd(8) tries for a minute to write the rest to the terminal of a dead shell.
                with suppress(*FAILURES):
                    shell.wait_for("$ ", READ_SECONDS)
                shell.send("cat >/dev/null; echo rea''d\r")
                shell.send("x" * 300_000 + "\r\x04")
                shell.wait_for("read", READ_SECONDS)

    def starts() -> None:
        wanted = {"application": WAITER, "product": "example-compute-1", "owner": ALICE, "minutes": 5}
        with suppress(*FAILURES):
            stage.core.submit_many([wanted] * MANY)

    threads = [threading.Thread(target=work) for work in (*[types] * SHELLS, starts)]
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(stage.core.follow(job, ALICE))
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join(30)
    others = "squeue --noheader --user=alice --format='%A %j' | grep -v 'ucloud-JOB$' | cut -d' ' -f1 | xargs -r scancel"
    stage.cluster.run("bash", "-c", others.replace("JOB", job), user="alice")


def _pkill(stage: Stage, signal: str) -> None:
    stage.living.run("pkill", f"-{signal}", "-u", "alice", "-f", MATCH, user="alice", check=False)


def heal(stage: Stage) -> None:
    """Nothing of alice's stays in the way of what comes next."""
    _pkill(stage, "CONT")
    _pkill(stage, "KILL")
    stage.living.run("bash", "-c", "rm -f ~alice/.attack")


def killed(stage: Stage) -> Outcome:
    """Kills her program again and again."""
    loop = f"end=$((SECONDS + 4)); while [ $SECONDS -lt $end ]; do pkill -9 -u alice -f {MATCH}; sleep 0.05; done"
    with stage.attacker("alice", "swarm", {"to": "/nowhere", "count": 0}):
        stage.living.run("systemd-run", "--no-block", "--collect", "--uid=alice", "bash", "-c", loop)
        with uses(stage):
            slow, works = stage.lives(20), stage.works(BOB)
    heal(stage)
    return verdict("only her own jobs wait", slow, works)


def stopped(stage: Stage) -> Outcome:
    """Stops her program with all its requests."""
    with uses(stage):
        pass
    _pkill(stage, "STOP")
    with uses(stage), stage.typing() as echoes:
        slow, works = stage.lives(20), stage.works(BOB)
    worst = max(echoes, default=0.0)
    heal(stage)
    return verdict("only her own jobs wait", slow, works, f"bob's keys took {worst:.1f} s" if worst > 10 * stage.echo else "")


def stopped_and_killed(stage: Stage) -> Outcome:
    """Stops her program, and kills it when sudo has stopped with it; once while the runner starts anew."""

    def hers(state: str) -> int:
        return sum(b"\0alice\0" in each.command and each.state == state for each in stage.vitals().processes)

    def hurts(between: Callable[[], object]) -> str:
        with uses(stage):
            pass
        _pkill(stage, "STOP")
        wait_until("sudo has stopped", lambda: not hers("S"), seconds=PATIENCE)  # or ended: the runner continues it
        between()
        _pkill(stage, "KILL")
        return stage.works(ALICE) or stage.works(BOB)

    works = hurts(lambda: None)
    again = hurts(lambda: stage.living.systemctl("restart", "ucloud-slurm-runner.service"))
    with suppress(SandboxError):
        wait_until("no sudo is stopped", lambda: not hers("T"), seconds=LEFT_SECONDS)
    left = hers("T")
    heal(stage)
    return verdict("her next call works, and no sudo is left", works, again, f"{left} sudo stay stopped" if left else "")


def stopped_for_a_while(stage: Stage) -> Outcome:
    """Stops her program while it submits, and lets it go on later: still one job."""
    before = {line.split()[0] for line in _slurm_jobs(stage)}
    with uses(stage):
        pass
    _pkill(stage, "STOP")
    with suppress(*FAILURES):
        stage.submit(ALICE)
    time.sleep(2)
    _pkill(stage, "CONT")
    stage.living.systemctl("start", "ucloud-slurm-worker.service", check=False)
    wait_until("it is quiet", lambda: not stage.lives(3), seconds=30)
    names = [line.split()[1] for line in _slurm_jobs(stage) if line.split()[0] not in before]
    twice = sorted({name for name in names if names.count(name) > 1})
    heal(stage)
    return verdict("each of her jobs is there once", f"{', '.join(twice)} is there twice" if twice else "")


def _slurm_jobs(stage: Stage) -> list[str]:
    return stage.cluster.run("squeue", "--noheader", "--states=all", "--user=alice", "--format=%A %j").splitlines()


def traced(stage: Stage) -> Outcome:
    """Attaches to her program, and reads its memory and descriptors."""
    with uses(stage):
        said = stage.tool("alice", "look", "poke", MATCH)
    got = [each for each in said["got"] if not each.startswith("SIG")]
    heal(stage)
    return verdict(
        f"signals, and nothing else of {said['processes']} programs",
        f"alice got {', '.join(got)}" if got else "",
        "" if said["processes"] else "there was no program",
    )


@contextmanager
def hostile(stage: Stage, how: str) -> Iterator[None]:
    """Alice's program is her own while the block runs; bob's is the real one."""
    tool = stage.command("hostile_program")[-1]
    head = f"#!{stage.installation.python} -IS"
    script = f"test -e {REAL} || mv {AS_USER} {REAL}; {{ echo '{head}'; cat {tool}; }} > {AS_USER}; chmod 755 {AS_USER}"
    _pkill(stage, "KILL")
    stage.living.run("bash", "-ec", script)
    stage.living.run("bash", "-c", f"echo '{how}' > ~/.attack", user="alice")
    try:
        yield
    finally:
        stage.living.run("mv", REAL, AS_USER)
        heal(stage)


def _own(name: str) -> Callable[[Stage], Outcome]:
    _, how = HOSTILE[name]

    def play(stage: Stage) -> Outcome:
        stage.renew(ALICE)
        before = stage.vitals()
        with hostile(stage, how):
            with uses(stage), stage.typing() as echoes:
                slow, works = stage.lives(20), stage.works(BOB)
                most = stage.vitals()
            worst = max(echoes, default=0.0)
        growth, memory = most.descriptors() - before.descriptors(), most.memory() - before.memory()
        stage.renew(ALICE)  # who follows a job does so to its end
        left = _left(stage, before)
        return verdict(
            f"{growth} descriptors and {memory:.0f} MiB meanwhile; bob's keys took {worst * 1000:.0f} ms at most",
            slow,
            works,
            f"bob's keys took {worst:.1f} s" if worst > 10 * stage.echo else "",
            f"{growth} descriptors" if growth > 150 else "",
            left,
            f"memory grew by {memory:.0f} MiB" if memory > 200 else "",
        )

    play.name = name  # type: ignore[attr-defined]
    return play


def names_another_job(stage: Stage) -> Outcome:
    """Says that her job is bob's, and cancels it."""
    listed = stage.cluster.run("squeue", "--noheader", f"--name=ucloud-{stage.job(BOB)}", "--user=bob", "--format=%A").split()
    stage.living.run("bash", "-c", f"echo {listed[0]} > ~/.attack-job", user="alice")
    with hostile(stage, "another"):
        job = ""
        with suppress(*FAILURES):
            job = stage.submit(ALICE)
            stage.core.terminate(job)
        stage.living.systemctl("start", "ucloud-slurm-worker.service", check=False)
    state = stage.cluster.run("squeue", "--noheader", f"--job={listed[0]}", "--states=all", "--format=%T").strip()
    shown = stage.shown(ALICE, job, 1.0) if job else ""
    return verdict(
        "bob's job runs on",
        "" if state == "RUNNING" else f"bob's job is {state}",
        "bob's log was shown" if shown.strip("\n") and "bob" in shown else "",
    )


def _left(stage: Stage, before: Vitals) -> str:
    """The descriptors that are there some seconds later, and were not before; empty where there are hardly any."""
    most = before.descriptors() + SLACK
    with suppress(SandboxError):
        wait_until("they are closed", lambda: stage.vitals().descriptors() <= most, seconds=LEFT_SECONDS)
    now = stage.vitals()
    return (
        f"{now.descriptors() - before.descriptors()} descriptors are left: {now.more(before)}"
        if now.descriptors() > most
        else ""
    )


def dead_file_server(stage: Stage) -> Outcome:
    """Her job's folder is on a file server that gives names, and never answers a read, a flush or a close."""
    return _dead(stage, "15,18,25,28")


def dead_at_open(stage: Stage) -> Outcome:
    """Her job's folder is on a file server that answers nothing but its mount."""
    return _dead(stage, "1,3,14,15,27")


def _dead(stage: Stage, unanswered: str) -> Outcome:
    job = stage.renew(ALICE)
    folder = stage.folder(ALICE, job)
    # Where the programs of people are: the runner's own view of the files, below which every shell and program lives.
    runner = next(each.pid for each in stage.vitals().processes if each.unit == "ucloud-slurm-runner.service")
    alice = pwd.getpwnam("alice")
    with stage.at(runner, "fuse", str(folder), str(alice.pw_uid), str(alice.pw_gid), unanswered) as server:
        with uses(stage), stage.typing() as echoes:
            slow, works = stage.lives(20), stage.works(BOB)
        worst = max(echoes, default=0.0)
    heal(stage)
    return verdict(
        f"{server.said['unanswered']} of her own requests hang",
        slow,
        works,
        f"bob's keys took {worst:.1f} s" if worst > 10 * stage.echo else "",
        "" if server.said["requests"] > 1 else "her folder was not looked at",
    )


def terminal_floods(stage: Stage) -> Outcome:
    """`yes` in a shell."""
    stage.renew(ALICE)
    with stage.shell(ALICE) as shell, stage.typing() as echoes:
        shell.send("timeout 4 yes 0123456789012345678901234567890123456789\r")
        slow = stage.lives(20)
        memory = stage.vitals().memory()
    worst = max(echoes, default=0.0)
    heal(stage)
    return verdict(
        f"{memory:.0f} MiB of memory in all", slow, f"bob's keys took {worst:.1f} s" if worst > 10 * stage.echo else ""
    )


def pasted_without_a_reader(stage: Stage) -> Outcome:
    """Pastes megabytes into a shell that reads nothing."""
    with stage.shell(ALICE) as shell:
        shell.send("stty raw -echo; sleep 3; timeout 2 cat >/dev/null; echo rea''d\r")
        for _ in range(20):
            with suppress(*FAILURES):
                shell.send("x" * 200_000)
                break
        slow = stage.lives(10)
        with suppress(*FAILURES):
            shell.wait_for("read", PATIENCE)
    return verdict("it waits, then is refused", slow) if slow else held("it waits, then is refused")


ATTACKS: tuple[Attack, ...] = attacks_of(
    Actor.PROGRAM,
    ("kills it again and again", killed),
    ("stops it", stopped),
    ("stops it, and kills it then", stopped_and_killed),
    ("stops it for a while", stopped_for_a_while),
    ("attaches to it and reads its memory", traced),
    *((HOSTILE[name][0], _own(name)) for name in HOSTILE),
    ("says that her job is bob's, and cancels it", names_another_job),
    ("has a folder on a file server that died while reading", dead_file_server),
    ("has a folder on a file server that died before", dead_at_open),
    ("floods a terminal", terminal_floods),
    ("pastes into a shell that does not read", pasted_without_a_reader),
    restarts={stopped_and_killed},
    slow={"killed", "stopped", "stopped-and-killed", "stopped-for-a-while", "dead-at-open", *HOSTILE},
)
