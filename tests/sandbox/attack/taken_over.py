"""What code can do that runs as the service's own account: become a researcher within the verbs, and nothing more."""

import json
import time
from typing import Any

from tests.sandbox.attack.inputs import NO_MESSAGES, START, WRONG
from tests.sandbox.attack.model import Actor, Attack, Outcome, attacks_of, held, verdict
from tests.sandbox.attack.people import ALICE
from tests.sandbox.attack.stage import AS_USER, PROGRAM, Stage
from tests.sandbox.attack.vitals import UNITS

MARKER = "/var/tmp/ucloud-slurm-attack-root"
RUNNER = "/run/ucloud-slurm/runner.sock"
AS_ALICE = ["-u", "alice", "--", AS_USER]
# Words behind sudo -n, none of which the rule may allow.
SUDO: tuple[list[str], ...] = (
    ["id"],
    ["-u", "root", AS_USER],
    ["-u", "#0", AS_USER],
    ["-u", "#-1", AS_USER],
    ["-u", "#4294967295", AS_USER],
    ["-u", "slurm", AS_USER],
    ["-u", "daemon", AS_USER],
    ["-u", "www-data", AS_USER],
    ["-g", "root", "-u", "alice", AS_USER],
    ["-g", "ucloud-slurm", "-u", "alice", AS_USER],
    ["-u", "alice", AS_USER, "--anything"],
    ["-u", "alice", AS_USER, "--he"],
    ["-u", "alice", AS_USER, ""],
    ["-u", "alice", AS_USER, "-c", "id"],
    ["-u", "alice", "/bin/sh", "-c", "id"],
    ["-u", "alice", "/opt/ucloud-slurm/bin/python3", "-c", "1"],
    ["-u", "alice", "/opt/ucloud-slurm/bin/../bin/ucloud-slurm", "users", "list"],
    ["-u", "alice", "-s"],
    ["-u", "alice", "-i"],
    ["-u", "alice", "-e", "/etc/passwd"],
    ["-u", "alice", "-D", "/tmp", AS_USER],
    ["-u", "alice", "-R", "/tmp", AS_USER],
    ["-u", "alice", "-E", AS_USER],
    ["-u", "alice", "LD_PRELOAD=/tmp/x.so", AS_USER],
    ["-u", "alice", "PYTHONPATH=/tmp/x", AS_USER],
    ["-u", "alice", "BASH_ENV=/tmp/x", AS_USER],
)
HOSTILE = {
    "LD_PRELOAD": "/tmp/evil/x.so",
    "LD_LIBRARY_PATH": "/tmp/evil",
    "PYTHONPATH": "/tmp/evil",
    "PYTHONHOME": "/tmp/evil",
    "PYTHONSTARTUP": "/tmp/evil/x.py",
    "PYTHONINSPECT": "1",
    "BASH_ENV": "/tmp/evil/x.sh",
    "ENV": "/tmp/evil/x.sh",
    "HOME": "/tmp/evil",
    "IFS": "/",
    "PATH": "/tmp/evil:/usr/bin:/bin",
    "SUDO_UID": "0",
    "SLURM_CONF": "/tmp/evil/slurm.conf",
}
# Options of sbatch that change who a job is, whole and as getopt_long(3) lets them be shortened.
OPTIONS = (
    "--uid=0",
    "--ui=0",
    "--u=0",
    "--gid=0",
    "--gi=0",
    "--wrap=id",
    "--wra=id",
    "--get-user-env=1",
    "--get-u=1",
    "--get-user",
)


def _service(stage: Stage, tool: str, *arguments: object) -> Any:
    return stage.tool(stage.cluster.service_user, tool, *arguments)


def _message(stage: Stage, **more: Any) -> dict[str, Any]:
    soon = time.clock_gettime(time.CLOCK_BOOTTIME) + 20
    return START | {"user": "alice", "conf": str(stage.cluster.conf), "deadline": soon, "ends": soon} | more


def messages_in_another_form(stage: Stage) -> Outcome:
    """Every message to the runner that is not in its one form."""
    text = json.dumps([_message(stage), *(_message(stage) | wrong for wrong in WRONG)])
    text = text.replace("{own}", "/var/lib/ucloud-slurm/x").replace("{home}", str(stage.home("alice")))
    (right, _), *answers = _service(stage, "talk", "ask", RUNNER, json.loads(text))
    stage.cluster.run("scancel", "--user=alice", "--name=sbatch")
    done = [
        wrong
        for wrong, (answer, descriptors) in zip(WRONG, answers, strict=True)
        if descriptors or not isinstance(answer, dict) or not {"refused", "problem", "trouble"} & set(answer)
    ]
    return verdict(f"{len(WRONG)} messages, each refused", f"was done: {done[0]}" if done else "", _right(right), stage.works())


def _right(answer: Any) -> str:
    """What is wrong where the one form was not served; then the refusal of others says nothing."""
    return "" if isinstance(answer, dict) and answer.get("waits") is True else f"the right message was not served ({answer})"


def no_messages(stage: Stage) -> Outcome:
    """Bytes that are no message."""
    answers = _service(stage, "talk", "say", RUNNER, [each.hex() for each in NO_MESSAGES])
    return verdict("no answer", f"answered with {answers}" if any(answers) else "", stage.works())


def shortened_options(stage: Stage) -> Outcome:
    """Options of sbatch that change who a job is, also in short."""
    messages = [_message(stage, arguments=["--parsable", option]) for option in OPTIONS]
    answers = _service(stage, "talk", "ask", RUNNER, messages)
    passed = [option for option, (answer, _) in zip(OPTIONS, answers, strict=True) if "refused" not in (answer or {})]
    return verdict(f"{len(OPTIONS)} options, each refused", f"{', '.join(passed)} came through to sbatch" if passed else "")


def other_words_of_sudo(stage: Stage) -> Outcome:
    """Everything of sudo but the one form."""
    passed = []
    for words in SUDO:
        said = _service(stage, "by_sudo", words, [], {})
        if said["hello"] or said["status"] == 0:
            passed.append(" ".join(words))
    return verdict(f"{len(SUDO)} forms, each refused", *(f"sudo allows: {each}" for each in passed))


def hostile_environment(stage: Stage) -> Outcome:
    """Variables, modules and libraries that the program could load."""
    evil = f"import os; os.system('id > {MARKER}')"
    make = (
        "rm -rf /tmp/evil; mkdir -p /tmp/evil; cd /tmp/evil; "
        f'for i in sitecustomize usercustomize encodings json x; do echo "{evil}" > $i.py; done; '
        f"echo 'id > {MARKER}' > x.sh; chmod -R a+rX /tmp/evil"
    )
    stage.living.run("bash", "-c", make, user=stage.cluster.service_user)
    home = "L=~/.local/lib; for v in 3.11 3.12 3.13; do mkdir -p $L/python$v/site-packages; "
    stage.living.run("bash", "-c", f'{home} echo "{evil}" > $L/python$v/site-packages/usercustomize.py; done', user="alice")
    said = _service(stage, "by_sudo", AS_ALICE, [], HOSTILE)
    loaded = stage.living.run("bash", "-c", f"cat {MARKER} 2>/dev/null; rm -f {MARKER}; rm -rf /tmp/evil")
    stage.living.run("bash", "-c", "rm -rf ~/.local/lib", user="alice")
    hello = "" if said["hello"] else f"the program does not start ({said['output'][-80:]})"
    return verdict("the program starts as alice, and loads none of it", "it loaded them" if "uid" in loaded else "", hello)


def files_through_the_verbs(stage: Stage) -> Outcome:
    """Reads and writes files that are none of a person's jobs', or not that person's."""
    home, bob = stage.home("alice"), stage.home("bob")
    stage.living.run("bash", "-c", "umask 077; mkdir -p ~/x; echo secret > ~/x/stdout-0.log; echo key > ~/id_rsa", user="bob")
    stage.living.run(
        "bash", "-c", f"mkdir -p ~/x; ln -sf {bob}/x/stdout-0.log ~/x/stdout-1.log; echo key > ~/id_rsa", user="alice"
    )
    log = f"{stage.folder(ALICE, stage.job(ALICE))}/stdout-0.log"
    messages: list[dict[str, Any]] = [
        {"verb": "open", "path": log},
        {"verb": "open", "path": f"{home}/id_rsa"},
        {"verb": "open", "path": f"{bob}/x/stdout-0.log"},
        {"verb": "open", "path": f"{home}/x/stdout-1.log"},
        {"verb": "open", "path": "/etc/shadow"},
        {"verb": "open", "path": f"/proc/self/root{home}/x/../id_rsa"},
        {"verb": "prepare", "folder": f"{home}/.ssh", "files": {"authorized_keys": "x"}},
        {"verb": "prepare", "folder": f"{bob}/x", "files": {"job.sh": "x"}},
        {"verb": "prepare", "folder": "/etc/cron.d", "files": {"job.sh": "x"}},
        {"verb": "terminal", "command": "/bin/bash", "arguments": ["/bin/bash", "-l"]},
        {"verb": "start", "command": "/bin/sh", "arguments": []},
    ]
    answers = _service(stage, "talk", "ask", RUNNER, [_message(stage, **each) for each in messages])
    got = [
        f"{message['verb']} {message.get('path') or message.get('folder') or message.get('command')}"
        for message, (answer, descriptors) in zip(messages[1:], answers[1:], strict=True)
        if descriptors or (message["verb"] == "prepare" and answer == {})
    ]
    own = "" if answers[0][1] == 1 else f"her own log was not opened either ({answers[0]})"
    below: list[dict[str, Any]] = [
        {"verb": "read", "root": f"{home}", "parts": ["id_rsa"]},
        {"verb": "read", "root": f"{home}", "parts": ["x", "stdout-1.log"]},
        {"verb": "read", "root": f"{home}", "parts": ["..", bob.name, "x", "stdout-0.log"]},
        {"verb": "read", "root": f"{bob}", "parts": ["x", "stdout-0.log"]},
        {"verb": "read", "root": "/", "parts": ["etc", "passwd"]},
        {"verb": "read", "root": "/etc", "parts": ["shadow"]},
        {"verb": "begin", "root": f"{bob}", "parts": ["x", "job.sh"], "policy": "REPLACE", "parents": False},
        {"verb": "begin", "root": "/etc/cron.d", "parts": ["job"], "policy": "REPLACE", "parents": False},
    ]
    every: dict[str, Any] = {"user": "alice", "deadline": time.clock_gettime(time.CLOCK_BOOTTIME) + 20}
    answers = _service(stage, "talk", "ask", RUNNER, [every | each for each in below])
    got += [
        f"{each['verb']} {each['root']} {each['parts']}"
        for each, (_, descriptors) in zip(below[1:], answers[1:], strict=True)
        if descriptors
    ]
    own = own or ("" if answers[0][1] == 1 else f"her own file was not opened either ({answers[0]})")
    return verdict(f"{len(messages) + len(below) - 2} tries, no descriptor and no file", *got, own)


def files_that_root_runs(stage: Stage) -> Outcome:
    """Writes what root or a researcher runs or reads."""
    places = (
        "/opt/ucloud-slurm /etc/ucloud-slurm /etc/ucloud-slurm-people.toml /etc/sudoers.d /usr/lib/systemd/system "
        "/etc/systemd/system /etc/systemd/system/ucloud-slurm.service /etc/passwd /etc/group /run/systemd/system"
    )
    test = f"for p in {places}; do for q in $p $(find $p -maxdepth 3 2>/dev/null); do test -w $q && echo $q; done; done; true"
    found = set(stage.living.run("bash", "-c", test, user=stage.cluster.service_user).split())
    found -= {"/etc/ucloud-slurm/refresh-token"}  # its own secret
    return verdict("none of it can be written", f"can be written: {', '.join(sorted(found)[:5])}" if found else "")


def jobs_as_others_without_the_runner(stage: Stage) -> Outcome:
    """Uses the role at Slurm: Operator, not Administrator."""
    user = stage.cluster.service_user
    tries = {
        "sbatch --uid": "sbatch --parsable --uid=bob --gid=bob --wrap=id",
        "an Administrator": f"sacctmgr -i modify user {user} set adminlevel=Administrator",
        "srun as bob": "timeout 5 srun --uid=bob id",
        "the configuration": "scontrol update PartitionName=cpu State=DOWN",
    }
    got = []
    for name, command in tries.items():
        said = stage.cluster.run("bash", "-c", f"{command} && echo it-is-done || true", user=user)
        got += [name] if "it-is-done" in said else []
    level = stage.cluster.run("sacctmgr", "-nP", "show", "user", user, "format=AdminLevel").strip()
    return verdict(f"refused by Slurm; it is {level}", f"Slurm lets it have {', '.join(got)}" if got else "")


def own_table(stage: Stage) -> Outcome:
    """Writes into its own table that somebody at UCloud is root or a system account."""
    user = stage.cluster.service_user
    tries = {
        account: stage.living.run(PROGRAM, "users", "add", "Mallory#9", account, user=user, check=False)
        for account in ("root", "slurm", "daemon", "www-data", user)
    }
    listed = stage.living.run(PROGRAM, "users", "list", user=user)
    messages = [_message(stage, user=account) for account in (*tries, "munge", "mysql")]
    answers = _service(stage, "talk", "ask", RUNNER, messages)
    passed = [
        message["user"] for message, (answer, _) in zip(messages, answers, strict=True) if "refused" not in (answer or {})
    ]
    return verdict(
        "the command, the runner and the program refuse",
        "Mallory#9 is in the table" if "Mallory" in listed else "",
        f"the runner acts as {', '.join(passed)}" if passed else "",
    )


def out_of_the_units(stage: Stage) -> Outcome:
    """What the kernel says of the units' processes: no capability, no new privilege, filtered calls."""
    wrong = []
    for unit in ("ucloud-slurm.service", "ucloud-slurm-link.service", "ucloud-slurm-listener.service"):
        pid = stage.pid(unit)
        if not pid:
            continue
        status = dict(line.split(":\t", 1) for line in stage.living.read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
        if (
            status["NoNewPrivs"] != "1"
            or status["Seccomp"] != "2"
            or int(status["CapBnd"], 16)
            or status["Uid"].split()[0] == "0"
        ):
            wrong.append(f"{unit} may more than it should")
    return verdict("no capability, NoNewPrivileges, seccomp", *wrong)


def secrets_in_the_journal(stage: Stage) -> Outcome:
    """Reads the journal of all units: of everything that was done before, too."""
    units = (*UNITS, "ucloud-slurm-worker.service")
    text = "\n".join(line for unit in units for line in stage.living.journal(unit))
    return verdict(
        f"{text.count(chr(10))} lines without a secret, a stack trace or an escape sequence",
        "a secret stands in it" if any(secret in text for secret in stage.secrets) or "Bearer ey" in text else "",
        f"a stack trace stands in it: {text[text.index('Traceback') :][:2000]}" if "Traceback" in text else "",
        "an escape sequence stands in it" if "\033" in text else "",
    )


def what_it_can(stage: Stage) -> Outcome:
    """What is not defended: within the verbs it can act as every member of the group."""
    home = stage.home("alice")
    messages: list[dict[str, Any]] = [
        {"verb": "prepare", "folder": f"{home}/ucloud-jobs/by-hand", "files": {"job.sh": "#!/bin/sh\n"}},
        {"verb": "start", "command": "/usr/bin/sbatch", "arguments": ["--parsable"]},
        {"verb": "open", "path": f"{home}/ucloud-jobs/{stage.job(ALICE)}/stdout-0.log"},
    ]
    answers = _service(stage, "talk", "ask", RUNNER, [_message(stage, **each) for each in messages])
    stage.cluster.run("scancel", "--user=alice", "--name=sbatch")
    can = [
        each["verb"]
        for each, (answer, _) in zip(messages, answers, strict=True)
        if isinstance(answer, dict) and "refused" not in answer
    ]
    return held(
        f"as any researcher: {', '.join(can)}, listen, terminal, their files; "
        "at Slurm: what an Operator may; the database, UCloud's token"
    )


ATTACKS: tuple[Attack, ...] = attacks_of(
    Actor.TAKEN_OVER,
    ("sends the runner messages in another form", messages_in_another_form),
    ("sends the runner what is no message", no_messages),
    ("gives sbatch options that change who a job is", shortened_options),
    ("uses sudo in other forms than the one", other_words_of_sudo),
    ("has the privileged program load its code", hostile_environment),
    ("reads and writes files through the verbs", files_through_the_verbs),
    ("writes what root or researchers run", files_that_root_runs),
    ("uses its role at Slurm to be somebody", jobs_as_others_without_the_runner),
    ("connects a user with a system account", own_table),
    ("leaves the sandbox of the units", out_of_the_units),
    ("reads the journal", secrets_in_the_journal),
    ("does what the verbs allow, which is not defended", what_it_can),
)
