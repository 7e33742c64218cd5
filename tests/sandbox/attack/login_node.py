"""What researchers try on the login node, where they can run anything as themselves."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.sandbox.attack.model import Actor, Attack, Outcome, attacks_of, verdict
from tests.sandbox.attack.people import PATIENCE
from tests.sandbox.attack.stage import AS_USER, PROGRAM, Stage
from tests.sandbox.browser import CONNECT, NOT_MINE, Browser
from tests.sandbox.processes import wait_until

DORA = "Dora#4"
"""A user of UCloud who is about to be connected, with the account dora; eve is an account that nobody is connected with."""
SECRET_PLACES = (
    "/etc/ucloud-slurm/*",
    "/var/lib/ucloud-slurm/*",
    "/var/lib/ucloud-slurm",
    "/run/ucloud-slurm/*",
    "/run/ucloud-slurm*/*",
    "/etc/sudoers.d/*",
    "/dev/shm/*",
    "/tmp/*ucloud*",
    "/opt/ucloud-slurm/bin",
)
PUBLIC = ("people.toml", ".sock can be")
HALF_OPEN = 200


def files_of_the_service(stage: Stage) -> Outcome:
    """Reads and writes wherever the service keeps something."""
    found = stage.tool("alice", "look", "files", *SECRET_PLACES)
    wrong = [line for line in found if not any(part in line for part in PUBLIC)]
    wrong = [line for line in wrong if not (line.startswith("/opt/") and line.endswith("read"))]
    return verdict("nothing but what every account may read", *wrong[:5])


def processes_of_the_service(stage: Stage) -> Outcome:
    """Signals, ptrace, memory, environment and descriptors of the service's processes."""
    said = stage.tool("alice", "look", "poke", "gunicorn|ucloud-slurm (runner|linkd|listener)")
    wrong = "" if said["processes"] else "there were no processes"
    return verdict("EPERM from all of it", wrong, f"alice got {', '.join(said['got'])}" if said["got"] else "")


def secrets_in_ps(stage: Stage) -> Outcome:
    """Looks for tokens in the commands and environments of all processes, while the service works."""
    secrets = [*stage.secrets, stage.core.tokens.core_token()[:60]]
    with stage.attacker("alice", "look", "find", line=json.dumps(secrets)) as attacker:
        stage.living.systemctl("start", "ucloud-slurm-worker.service", check=False)
        slow = stage.lives(5)
    return verdict("none stands there", ", ".join(attacker.said), slow)


def reach_the_sockets(stage: Stage) -> Outcome:
    """Connects to everything at which a unit listens."""
    places: list[Any] = [each for each in stage.sockets() if "link" not in each]
    places += [["127.0.0.1", port] for port in stage.ports()]
    got = stage.tool("alice", "talk", "connect", places)
    wrong = [f"{place} answers {answer}" for place, answer in got.items() if answer.startswith("HTTP/")]
    reached = ", ".join(f"{place.rpartition('/')[2]}: {answer}" for place, answer in got.items())
    return verdict(reached, *wrong)


def half_open_local(stage: Stage) -> Outcome:
    """200 connections to each local socket and port, which say half of a request."""
    slow, held_open = "", []
    for place in [*stage.sockets(), *(["127.0.0.1", port] for port in stage.ports())]:
        wanted = {"to": place, "count": int(HALF_OPEN * max(stage.scale, 0.5)), "first": "GET / HTTP/1.1\r\nHost", "drip": ""}
        with stage.attacker("alice", "swarm", wanted) as attacker:
            slow = slow or stage.lives(10)
        name = place.rpartition("/")[2] if isinstance(place, str) else f"port {place[1]}"
        held_open.append(f"{name}: {attacker.said['peak']}")
    return verdict(f"connections held: {', '.join(held_open)}", slow)


def squat_at_a_restart(stage: Stage) -> Outcome:
    """Binds the service's ports and paths while it is stopped, and answers UCloud in its place."""
    ports, paths = stage.ports(), stage.sockets()
    with stage.attacker("alice", "squat", ports, paths) as attacker:
        stage.living.systemctl("stop", "ucloud-slurm.service")
        stage.calls(1) if ports else None
        stage.living.systemctl("start", "--no-block", "ucloud-slurm.service")
        stage.calls(5)
    stage.living.systemctl("restart", "ucloud-slurm.service")
    wait_until("it answers", lambda: stage.calls(1)[0][1] == 200, seconds=30)
    said = attacker.said
    heard = "UCloud's token" if any("Bearer" in text for text in said["heard"]) else ""
    return verdict(
        "nothing could be bound",
        f"alice held {', '.join(said['taken'])}" if said["taken"] else "",
        f"and got {heard}" if heard else "",
    )


def restart_loses_nothing(stage: Stage) -> Outcome:
    """Nobody's call is lost or answered by another at a reload and a restart."""
    wrong = []
    for verb in ("reload", "restart"):
        stage.living.systemctl("--no-block", verb, "ucloud-slurm.service")
        answers = stage.calls(15, within=PATIENCE)
        failed = [status for _, status in answers if status != 200]
        wrong += [f"{verb}: {len(failed)} of 15 calls got {sorted(set(failed))}"] if failed else []
    wait_until("it answers", lambda: stage.calls(1)[0][1] == 200, seconds=30)
    return verdict("every call was answered", *wrong)


def sudo_for_researchers(stage: Stage) -> Outcome:
    """Uses the service's rule of sudo."""
    tries = (
        ["-u", "bob", AS_USER],
        ["-u", "ucloud-slurm", AS_USER],
        ["-u", "bob", "/opt/ucloud-slurm/bin/python3", "-c", "1"],
        ["id"],
        ["-l"],
    )
    got = [words for words in tries if stage.tool("alice", "by_sudo", words, [], {})["status"] == 0]
    return verdict("sudo asks for a password each time", f"sudo let alice run {got}" if got else "")


def program_by_hand(stage: Stage) -> Outcome:
    """Starts the program that acts as people without sudo, as if sudo had."""
    script = f"SUDO_UID=$(id -u) {AS_USER} </dev/null; SUDO_UID=0 {AS_USER}; {AS_USER} --help; true"
    said = stage.living.run("bash", "-c", script, user="alice")
    refused = len(re.findall("ucloud-slurm-as-user: ", said))
    return verdict("a refusal in a sentence", "" if refused == 3 and "Traceback" not in said else said[-100:])


# -- connecting ------------------------------------------------------------------------------------------------


def _browser(stage: Stage) -> Browser:
    """The browser of somebody who connects."""
    stage.core.accounts.set_quota(1000, DORA)
    return Browser.sent_to(stage.core.connect_user(DORA), stage.living.url)


def _type(stage: Stage, account: str, code: str) -> str:
    """Types a code as the guide says, and waits for the browser's answer; returns what was said."""
    return stage.living.run(PROGRAM, "link", "--yes", user=account, stdin=f"{code}\n", check=False)


def _linked(stage: Stage) -> str:
    """The account with which dora is connected; empty where there is none."""
    said = stage.living.run(PROGRAM, "users", "list", "--json", user=stage.cluster.service_user)
    found = re.search(rf'"{re.escape(DORA)}"[^}}]*?"(alice|bob|dora|eve)"', said, re.DOTALL)
    return found[1] if found else ""


def _forget(stage: Stage) -> None:
    stage.living.run(PROGRAM, "users", "remove", DORA, user=stage.cluster.service_user, check=False)
    stage.core.directory.disconnect(DORA)


def code_in_ps(stage: Stage) -> Outcome:
    """Reads the commands of all processes while dora types hers."""
    browser = _browser(stage)
    code = browser.code()
    with stage.attacker("alice", "look", "find", line=json.dumps([code, browser.secret])) as attacker, browser.answering():
        said = _type(stage, "dora", code)
    linked = _linked(stage)
    _forget(stage)
    return verdict(
        "the code stands nowhere",
        f"the code stands in the {attacker.said[0]}" if attacker.said else "",
        "" if linked == "dora" else f"dora is not connected ({said[-80:]})",
    )


def code_of_another(stage: Stage) -> Outcome:
    """Types a code that she has seen on somebody else's screen, before its owner does."""
    browser = _browser(stage)
    code = browser.code()
    with ThreadPoolExecutor(1) as pool:
        typed = pool.submit(_type, stage, "eve", code)
        wait_until("the page asks", lambda: NOT_MINE in browser.look().text, seconds=20)
        page = browser.look().text
        before = _linked(stage)
        browser.press(NOT_MINE)
        said = typed.result()
    after = _linked(stage)
    _forget(stage)
    return verdict(
        f"the page names her and asks; then: {said[-70:]!r}",
        "the page does not name the account" if "eve" not in page or DORA not in page else "",
        f"{DORA} was connected with {before or after}, unasked" if before or after else "",
    )


def account_for_two(stage: Stage) -> Outcome:
    """Connects a second user of UCloud with her account."""
    browser = _browser(stage)
    with ThreadPoolExecutor(1) as pool:
        typed = pool.submit(_type, stage, "alice", browser.code())
        wait_until("it is refused, or the page asks", lambda: typed.done() or NOT_MINE in browser.look().text, seconds=20)
        if not typed.done():
            browser.press(CONNECT)
            browser.press(NOT_MINE) if NOT_MINE in browser.look().text else None
        said = typed.result()
    linked = _linked(stage)
    _forget(stage)
    return verdict(f"refused: {said[-90:]!r}", f"{DORA} and Alice#1 are both alice" if linked else "")


def guessed_codes(stage: Stage) -> Outcome:
    """Guesses codes as fast as they are answered."""
    got = stage.tool("alice", "link", "guess", _link_socket(stage), "60")
    refused = sum(count for text, count in got.items() if "Too many" in text)
    return verdict(f"{60 - refused} of 60 were looked at", "guesses are not limited" if refused < 30 else "")


def half_open_connecting(stage: Stage) -> Outcome:
    """Holds 200 connections to the daemon that connects accounts, each with half a message."""
    browser = _browser(stage)
    code = browser.code()
    with stage.attacker("alice", "link", "hold", _link_socket(stage), str(HALF_OPEN)), ThreadPoolExecutor(1) as pool:
        typed = pool.submit(_type, stage, "dora", code)
        wait_until("an answer", lambda: typed.done() or NOT_MINE in browser.look().text, seconds=30)
        if not typed.done():
            browser.press(CONNECT)
        said = typed.result()
    linked = _linked(stage)
    _forget(stage)
    return verdict("dora is answered, and connected", "" if linked == "dora" else f"dora gets {said[-80:]!r}")


def _link_socket(stage: Stage) -> str:
    return next(path for path in stage.sockets() if Path(path).name == "link.sock")


ATTACKS: tuple[Attack, ...] = attacks_of(
    Actor.LOGIN,
    ("reads and writes the service's files", files_of_the_service),
    ("signals, traces and reads its processes", processes_of_the_service),
    ("looks for tokens in ps", secrets_in_ps),
    ("connects to its sockets and ports", reach_the_sockets),
    ("holds 200 half-open connections to each", half_open_local),
    ("takes its ports and paths at a restart", squat_at_a_restart),
    ("looks for calls that a restart loses", restart_loses_nothing),
    ("uses the service's rule of sudo", sudo_for_researchers),
    ("starts the privileged program by hand", program_by_hand),
    ("reads dora's code in ps while she types it", code_in_ps),
    ("types a code that is somebody else's", code_of_another),
    ("connects two users with one account", account_for_two),
    ("guesses codes", guessed_codes),
    ("holds 200 half-open connections to linkd", half_open_connecting),
    restarts=(squat_at_a_restart, restart_loses_nothing),
)
