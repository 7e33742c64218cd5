"""The long options of Slurm's commands that this product uses, by their whole names (sbatch(1), srun(1)).

sbatch accepts the beginning of a name as the name, so that only a list of what is accepted can keep an option out: the
program that acts as a user passes no other.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what is imported loads slowly, and the program that acts as a user starts often
if TYPE_CHECKING:
    from collections.abc import Collection


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Options of sbatch that ucloud-slurm sets itself, as it sets them: with a value, and without.
_WITH_VALUE = _names(
    "account chdir comment constraint cpus-per-task error export gres job-name mem nodes ntasks ntasks-per-node open-mode "
    "output partition qos reservation signal time"
)
_WITHOUT_VALUE = _names("exclusive hold parsable test-only")
# Options of srun for a shell in a job, likewise.
_SHELL_WITH_VALUE = _names("chdir jobid job-name nodes ntasks relative")
_SHELL_WITHOUT_VALUE = _names("overlap pty quiet")
# Options of sbatch that a site may add, in Slurm 20.11 to 26.05.
SITE = _names(
    "acctg-freq batch begin consolidate-segments context contiguous core-spec cores-per-socket cpu-freq deadline delay-boot "
    "distribution exclude extra extra-node-info gpu-bind gpu-freq gres-flags hint hold ignore-pbs kill-on-invalid-dep "
    "licenses mail-type mail-user mcs-label mem-bind mem-update mincpus network nice no-kill no-requeue nodefile nodelist "
    "oom-kill-step overcommit oversubscribe power prefer priority profile quiet reboot requeue resources resv-ports segment "
    "sockets-per-node spread-job spread-segments stepmgr switches thread-spec threads-per-core tmp tres-bind tres-per-task "
    "use-min-nodes verbose wait-all-nodes wckey"
)
# Options of sbatch that no site adds: ucloud-slurm sets them itself, or they would make another kind of job.
OWNED = (_WITH_VALUE | _WITHOUT_VALUE - SITE) | _names(
    "array autocomplete bb bbf burst-buffer cluster cluster-constraint clusters container container-id container-type "
    "cpus-per-gpu dependency export-file external get-user-env gid gpus gpus-per-node gpus-per-socket gpus-per-task help "
    "input mem-per-cpu mem-per-gpu ntasks-per-core ntasks-per-gpu ntasks-per-socket ntasks-per-tres propagate "
    "tasks-per-node time-min uid usage version wait wrap"
)


def is_plugin_option(name: str) -> bool:
    """Whether a text can name an option of sbatch that is not listed here: no option that is listed begins with it."""
    import re

    return bool(re.fullmatch(r"[a-z][a-z0-9-]*", name)) and begun(name) is None


def begun(name: str) -> str | None:
    """The option of sbatch whose name begins with a text; those that no site adds come first."""
    return next((known for some in (OWNED, SITE) for known in sorted(some) if known.startswith(name)), None)


def unaccepted(words: Collection[str], plugin_options: Collection[str], *, of_shell: bool = False) -> str | None:
    """The first of some arguments that is not one of the options of sbatch; None if all are.

    :param plugin_options: further options of sbatch, by their whole names
    :param of_shell: the options are those of the srun that starts a shell in a job
    """
    with_value, without = (_SHELL_WITH_VALUE, _SHELL_WITHOUT_VALUE) if of_shell else (_WITH_VALUE, _WITHOUT_VALUE)
    either: Collection[str] = () if of_shell else {*SITE, *plugin_options}
    for word in words:
        name, has_value, _ = word.removeprefix("--").partition("=")
        listed = name in (with_value if has_value else without) or name in either
        if not word.startswith("--") or "\0" in word or not listed:
            return word
    return None
