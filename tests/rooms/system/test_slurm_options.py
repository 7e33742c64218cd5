"""What the program that acts as a user passes to Slurm's commands: options by their whole names, and no other."""

from pathlib import Path

import pytest

from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.slurm.sbatch import options
from ucloud_slurm.system.slurm_options import OWNED, SITE, is_plugin_option, unaccepted

EVERYTHING = Submission(
    user="alice",
    name="ucloud-1",
    comment="--uid=0",
    script="",
    partition="cpu",
    nodes=2,
    cpus=4,
    memory=1,
    gres="gpu:1",
    minutes=5,
    account="a",
    qos="q",
    constraint="c",
    reservation="r",
    folder="/x",
    output="/x/o",
    error="/x/e",
    exclusive=True,
    signal="USR1@60",
    more=("--nice=5", "--hold", "--licenses=x=1,y"),
    omit=("nodes",),
)


def test_what_is_sent_is_accepted(tmp_path: Path) -> None:
    slurm = Commands(Path("/usr/bin"), tmp_path / "slurm.conf", 5)
    assert unaccepted([*options(EVERYTHING), *options(EVERYTHING._replace(omit=()))], ()) is None
    trial, _ = slurm.trial(EVERYTHING)
    assert unaccepted(trial[1:], ()) is None
    shell = slurm.terminal(SlurmJobId(7), 1, "/home/alice/j", "/bin/bash").argv
    assert unaccepted(shell[1:-2], (), of_shell=True) is None


def test_no_option_is_accepted_by_the_beginning_of_its_name() -> None:
    accepted = {
        name for name in OWNED | SITE if unaccepted([f"--{name}=1"], ()) is None or unaccepted([f"--{name}"], ()) is None
    }
    assert not accepted & {"uid", "gid", "wrap", "get-user-env", "export-file", "array", "bbf", "container", "propagate"}
    beginnings = {name[:end] for name in OWNED | SITE for end in range(len(name))} - accepted
    for name in sorted(beginnings | (OWNED - accepted)):
        for word in (f"--{name}=0", f"--{name}", f"-{name}", f"---{name}=0"):
            assert unaccepted(["--parsable", word], ()) == word


@pytest.mark.parametrize(
    "word",
    ["", "-", "--", "x.sh", "-n1", "parsable", "--parsable ", "--Parsable", "--nodes", "--parsable=1", "--nice=\0", "--=x"],
)
def test_what_is_no_option_in_its_one_form_is_not_accepted(word: str) -> None:
    assert unaccepted([word], ()) == word


@pytest.mark.parametrize("word", ["--nice=1", "--parsable", "--pt", "--overlap=1", "--relative", "--uid=0", "--export=ALL"])
def test_a_shell_has_the_options_of_a_shell_only(word: str) -> None:
    assert unaccepted([word], ("nice",), of_shell=True) == word


def test_options_of_plugins_are_accepted_where_the_rule_names_them() -> None:
    assert unaccepted(["--container-image=x"], ()) == "--container-image=x"
    assert unaccepted(["--container-image=x", "--flag"], ("container-image", "flag")) is None
    assert unaccepted(["--container-imag=x"], ("container-image",)) == "--container-imag=x"
    assert is_plugin_option("container-image")
    assert not [name for name in ("ui", "w", "uid", "nice", "", "X", "-x", "a b", "a=b", "_") if is_plugin_option(name)]
