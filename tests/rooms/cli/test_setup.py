"""``setup`` as an administrator types it, with a Slurm whose answers were recorded and a host on which nothing runs."""

import os
import pwd
import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.sandbox.core import ERAS, SimulatedCore
from tests.support.keys import next_key
from tests.support.pages import install_commands, install_section
from ucloud_slurm import config
from ucloud_slurm.cli.main import main
from ucloud_slurm.cli.setup import setup
from ucloud_slurm.config.annotated import EXAMPLE, annotated
from ucloud_slurm.setup import files, host
from ucloud_slurm.setup.answers import QUESTIONS
from ucloud_slurm.setup.survey import Survey, survey
from ucloud_slurm.system.process import Finished

ODD = Path(__file__).parents[1] / "setup/odd"
TOKEN = "11112222-3333-4444-5555-666677778888"
SLURM = """\
#!/bin/sh
case "${0##*/} $*" in
    "scontrol ping") test ! -e FOLDER/down || { echo "Slurmctld(primary) at head is DOWN" >&2; exit 1; } ;;
    "scontrol show config") cat FOLDER/settings ;;
    *"show node") cat ODD/nodes.txt ;;
    *"show partition") cat FOLDER/partitions 2>/dev/null || cat ODD/partitions.txt ;;
    squeue*) cat FOLDER/version ;;
    sacctmgr*) cat FOLDER/accounts ;;
esac
"""
Type = Callable[..., Result]
ANSWERS = ("--provider", "example", "--url", "https://hpc.example.org")


class FakeHost:
    """Answers each question about a step alike, and notes what is to be run."""

    def __init__(self) -> None:
        self.done = False
        self.fails = ""
        self.commands: list[str] = []

    def __call__(self, line: str, seconds: float) -> Finished:
        assert seconds > 0
        if line.startswith("set -e\n"):
            self.commands.append(line)
            if self.fails and self.fails in line:
                return Finished(1, "", "it is broken\n")
            self.done = True
        elif self.fails and self.fails in line:
            return Finished(1, "", "")
        return Finished(0 if self.done else 1, "", "")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    here = FakeHost()
    monkeypatch.setattr(host, "run_line", here)
    return here


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("scontrol", "sinfo", "squeue", "sacctmgr"):
        (folder / name).write_text(SLURM.replace("FOLDER", str(folder)).replace("ODD", str(ODD)))
        (folder / name).chmod(0o755)
    (folder / "slurm.conf").write_text("ClusterName=odd\n")
    (folder / "settings").write_text("AccountingStorageType = accounting_storage/slurmdbd\nSlurmctldParameters = rl_enable\n")
    (folder / "version").write_text("slurm-wlm 22.05.8\n")
    (folder / "accounts").touch()
    return folder


@pytest.fixture
def type_(tmp_path: Path, slurm: Path, here: FakeHost) -> Type:
    """Types ``ucloud-slurm setup``."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "key").write_text(public_key())
    where = ("--config", str(tmp_path / "etc/config.toml"), "setup")
    assert here.commands == []

    def type_(*words: str, stdin: str | None = None) -> Result:
        slurms = ("--slurm-conf", str(slurm / "slurm.conf"), "--slurm-commands", str(slurm))
        there = (tmp_path / "etc/config.toml").exists() and "--replace" not in words
        return CliRunner().invoke(main, [*where, *(() if there else slurms), *words], input=stdin)

    return type_


def public_key() -> str:
    return SimulatedCore(provider="example", era=ERAS["today"], new_key=next_key).public_key


def keys(folder: Path) -> tuple[str, ...]:
    return ("--token-file", str(folder / "token"), "--public-key-file", str(folder / "key"))


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All files of a folder, and when each was written."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_all_answers_as_options_give_a_configuration_that_can_be_read(type_: Type, tmp_path: Path) -> None:
    done = type_("--yes", *ANSWERS, *keys(tmp_path))
    assert done.exit_code == 0, done.output
    read = config.read(tmp_path / "etc/config.toml")
    assert (read.provider.id, read.ucloud.url, read.users.mapping) == ("example", "https://cloud.sdu.dk", "table")
    assert len(read.products) == 8
    assert read.slurm.submit_per_second == 2.0, "that of rl_enable"
    assert read.ucloud.refresh_token() == TOKEN
    assert "No product for partition empty: it has no nodes." in done.output
    assert "systemctl enable --now ucloud-slurm.socket" in done.output


def test_no_secret_is_printed_or_can_be_read_by_others(type_: Type, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        done = type_(*ANSWERS, "--public-key-file", str(tmp_path / "key"), stdin="\n" * 7 + f"{TOKEN}\ny\n")
    finally:
        os.umask(old)
    assert done.exit_code == 0, done.output
    assert TOKEN not in done.output
    written = tmp_path / "etc/refresh-token"
    assert written.read_text() == f"{TOKEN}\n"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert not stat.S_IMODE((tmp_path / "etc").stat().st_mode) & 0o007


def test_run_twice_it_changes_nothing_and_says_so(type_: Type, tmp_path: Path, here: FakeHost) -> None:
    assert type_("--yes", *ANSWERS, *keys(tmp_path)).exit_code == 0
    here.done = True
    before = everything(tmp_path)
    done = type_("--yes")
    assert done.exit_code == 0, done.output
    assert "Nothing to do: all " in done.output
    assert "and nothing was changed." in done.output
    assert everything(tmp_path) == before
    again = type_("--yes", "--replace")
    assert "stays as it is" in again.output
    assert everything(tmp_path) == before


def test_what_is_typed_wrongly_is_asked_again_with_the_reason(type_: Type, tmp_path: Path) -> None:
    typed = ["a/b", "example", "hpc.example.org", "https://hpc.example.org/", "", "", "", "", "sometimes", "node", "", TOKEN]
    done = type_(stdin="\n".join([*typed, "nonsense", str(tmp_path / "nowhere"), str(tmp_path / "key"), "y", ""]))
    assert done.exit_code == 0, done.output
    for reason in (
        "provider.id: string should match pattern",
        "provider.url: should be a URL such as",
        "should be one of auto, core, node, gpu, billing",
        "is neither a base64 public key, a PEM public key nor a PEM certificate",
        "cannot be read (No such file or directory)",
    ):
        assert done.output.count(reason) == 1, reason
    read = config.read(tmp_path / "etc/config.toml")
    assert {product.charge_by for product in read.products} == {"node"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--provider", "a/b"), "--provider: provider.id: string should match pattern"),
        (("--mapping", "magic"), "--mapping: it should be one of table, service, script."),
        (("--account", "a b"), "--account: it should be the name of a Slurm account."),
        (("--provider", "x"), "there must be --url (The address of this provider"),
        (ANSWERS, "there must be --token-file"),
        ((*ANSWERS, "--token-file", "/nowhere"), "--token-file: /nowhere cannot be read"),
        ((*ANSWERS, "--token-file", "TMP/token", "--public-key-file", "TMP/token"), "--public-key-file: is neither"),
    ],
)
def test_without_questions_a_wrong_or_missing_answer_is_one_sentence_and_nothing_is_written(
    words: tuple[str, ...], said: str, type_: Type, tmp_path: Path
) -> None:
    done = type_("--yes", *(word.replace("TMP", str(tmp_path)) for word in words))
    assert done.exit_code == 2
    assert done.stderr.startswith("ucloud-slurm: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "etc").exists()


def test_limits_of_the_whole_cluster_count_for_its_partitions(type_: Type, slurm: Path, tmp_path: Path) -> None:
    (slurm / "settings").write_text(
        "AccountingStorageType = accounting_storage/slurmdbd\nMaxMemPerNode = 102400\nMaxMemPerCPU = UNLIMITED\n"
    )
    assert type_("--yes", *ANSWERS, *keys(tmp_path)).exit_code == 0
    assert {product.memory_gb for product in config.read(tmp_path / "etc/config.toml").products} == {100}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("settings", "AccountingStorageType = accounting_storage/none\n", "Slurm has no accounting database"),
        ("settings", "AccountingStorageType = (null)\n", "Slurm has no accounting database (AccountingStorageType = (null))"),
        ("settings", "Typ = \n", "Slurm has no accounting database (AccountingStorageType = not known)"),
        ("version", "slurm 20.02.7\n", "Slurm 20.02.7 is too old; Slurm 20.11 or newer is needed."),
        ("partitions", "PartitionName=x MaxTime=odd State=UP\n", "scontrol printed something unexpected: 'odd' is not a span"),
        ("down", "", "Slurm does not answer: scontrol ended with 1: Slurmctld(primary) at head is DOWN. Nothing was written"),
    ],
)
def test_a_slurm_that_cannot_be_used_is_one_sentence_and_nothing_is_written(
    name: str, text: str, said: str, type_: Type, slurm: Path, tmp_path: Path
) -> None:
    (slurm / name).write_text(text)
    done = type_("--yes", *ANSWERS, *keys(tmp_path))
    assert done.exit_code in (1, 78)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "etc").exists()


def test_words_that_are_no_answer_are_neither_a_release_nor_an_account(type_: Type, slurm: Path, tmp_path: Path) -> None:
    (slurm / "version").write_text("")
    (slurm / "accounts").write_text("Maintenance on Monday\n -rf\nphysics\n")
    done = type_("--yes", *ANSWERS, *keys(tmp_path))
    assert done.exit_code == 0, done.output
    assert "Slurm of an unknown release, cluster odd\n" in done.output
    assert "account=physics" in done.output


@pytest.mark.parametrize("typed", ["", "example\nhttps://h.example.org\n"])
def test_questions_without_an_answer_are_one_sentence_and_nothing_is_written(typed: str, type_: Type, tmp_path: Path) -> None:
    done = type_(stdin=typed)
    assert done.exit_code == 1
    assert done.stderr.endswith("ucloud-slurm setup --help), and --yes asks nothing.\n")
    assert done.stderr.startswith("ucloud-slurm: No answer came")
    assert not (tmp_path / "etc").exists()


def test_places_of_slurm_are_written_so_that_any_process_finds_them(
    type_: Type, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = type_("--yes", "--slurm-conf", "slurm/slurm.conf", "--slurm-commands", "slurm", *ANSWERS, *keys(tmp_path))
    assert done.exit_code == 0, done.output
    found = config.read(tmp_path / "etc/config.toml").slurm
    assert (found.conf, found.commands) == (slurm / "slurm.conf", slurm)


def test_a_private_key_is_not_copied(type_: Type, tmp_path: Path) -> None:
    private = next_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key").write_bytes(private)
    done = type_("--yes", *ANSWERS, *keys(tmp_path))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--public-key-file: holds a private key" in done.stderr
    assert not (tmp_path / "etc").exists()


def test_of_two_setups_at_once_the_later_one_replaces_nothing(
    type_: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "etc/config.toml"

    def meanwhile(table: dict[str, object]) -> Survey:
        path.parent.mkdir()
        path.write_text("# of the other one\n")
        return survey(table)

    monkeypatch.setattr("ucloud_slurm.cli.setup.survey", meanwhile)
    done = type_("--yes", *ANSWERS, *keys(tmp_path))
    assert done.exit_code == 1
    assert done.stderr == (
        f"ucloud-slurm: {path} was written by another setup meanwhile, and stays as it is; run setup again.\n"
    )
    assert path.read_text() == "# of the other one\n"


def test_a_slurm_that_is_not_there_is_one_sentence(tmp_path: Path, here: FakeHost) -> None:
    words = ["--config", str(tmp_path / "c.toml"), "setup", "--yes", *ANSWERS]
    done = CliRunner().invoke(main, [*words, "--slurm-conf", str(tmp_path / "none")])
    assert (done.exit_code, done.stderr.count("\n")) == (78, 1)
    assert "name it with --slurm-conf" in done.stderr
    assert here.commands == []


# ---- a configuration that is there


def existing(folder: Path, slurm: Path, **tables: object) -> Path:
    """A configuration that somebody wrote by hand, with its keys."""
    path = folder / "etc/config.toml"
    path.parent.mkdir()
    (path.parent / "refresh-token").write_text("old")
    (path.parent / "key.pem").write_text(public_key())
    data = {
        **EXAMPLE,
        "provider": {"id": "old", "url": "https://old.example.org"},
        "ucloud": {
            "url": "https://cloud.example.org",
            "refresh_token_file": str(path.parent / "refresh-token"),
            "public_key_file": str(path.parent / "key.pem"),
        },
        "slurm": {"conf": str(slurm / "slurm.conf"), "commands": str(slurm), "timeout": "15s"},
        "accounting": {"every": "5m"},
        **tables,
    }
    path.write_text(annotated(data, "# by hand"))
    return path


def test_a_configuration_that_is_there_stays_and_is_not_asked_again(type_: Type, tmp_path: Path, slurm: Path) -> None:
    path = existing(tmp_path, slurm)
    (slurm / "accounts").write_text("physics\n")
    before = everything(tmp_path)
    done = type_()
    assert done.exit_code == 0, done.output
    assert everything(tmp_path) == before
    assert f"{path} is there, and stays as it is (--replace writes it anew)." in done.output
    assert "https://old.example.org" in done.output, "the steps are those of that configuration"
    assert "account=physics" in done.output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--url", "https://new.example.org"), "--url"),
        (("--mapping", "table"), "--mapping"),
        (("--frequency", "day"), "--frequency"),
        (("--partition", "cpu"), "--partition"),
        (("--token-file", "TMP/token"), "--token-file"),
    ],
)
def test_an_option_that_would_change_it_is_refused_without_replace(
    words: tuple[str, ...], named: str, type_: Type, tmp_path: Path, slurm: Path
) -> None:
    existing(tmp_path, slurm)
    before = everything(tmp_path)
    done = type_("--yes", *(word.replace("TMP", str(tmp_path)) for word in words))
    assert done.exit_code == 2
    assert named in done.stderr
    assert "--replace" in done.stderr
    assert everything(tmp_path) == before


def test_replacing_takes_its_answers_and_keys_and_keeps_the_old_file(type_: Type, tmp_path: Path, slurm: Path) -> None:
    path = existing(tmp_path, slurm)
    old = path.read_text()
    done = type_("--yes", "--replace", "--url", "https://new.example.org", "--add-products")
    assert done.exit_code == 0, done.output
    (backup,) = [each for each in path.parent.iterdir() if re.fullmatch(r"config\.toml\.\d{8}T\d{6}Z", each.name)]
    assert backup.read_text() == old
    read = config.read(path)
    assert (read.provider.id, read.provider.url) == ("old", "https://new.example.org")
    assert (read.slurm.timeout, read.accounting.every) == (15.0, 300.0)
    assert read.users.mapping == "service", "its default when it was written"
    assert read.products[0].id == "example-compute-1"
    assert {"batch", "debug", "gpu", "whole"} <= {product.partition for product in read.products}
    assert read.ucloud.refresh_token() == "old"


def test_products_that_are_configured_are_not_joined_by_others_unasked(type_: Type, tmp_path: Path, slurm: Path) -> None:
    path = existing(tmp_path, slurm)
    done = type_("--yes", "--replace")
    assert "Without a product: batch, debug, gpu, whole (--add-products adds some)." in done.output
    assert len(config.read(path).products) == 1


@pytest.mark.parametrize("text", ["colour = 1\n", "[provider\n", "\xff", f"a = {'[' * 100_000}"])
def test_a_configuration_with_a_mistake_is_named_and_can_be_written_anew(
    text: str, type_: Type, tmp_path: Path, slurm: Path
) -> None:
    path = existing(tmp_path, slurm)
    path.write_bytes(text.encode("latin-1"))
    done = type_("--yes")
    assert done.exit_code == 78
    assert "--replace" in done.stderr
    assert path.read_bytes() == text.encode("latin-1")
    if "colour" not in text:  # a key that does not exist is kept, so that it is named again
        assert type_("--yes", "--replace", *ANSWERS, *keys(tmp_path)).exit_code == 0
        assert config.read(path).provider.id == "example"


@pytest.mark.parametrize("text", ['slurm = "x"', "ucloud = 5", "[[provider]]", "products = [1]", "[products]"])
def test_a_table_that_is_none_is_named_and_can_be_written_anew(text: str, type_: Type, tmp_path: Path, slurm: Path) -> None:
    path = existing(tmp_path, slurm)
    path.write_text(text)
    done = type_("--yes")
    assert (done.exit_code, done.stderr.count("\n")) == (78, 1)
    assert ": should be a table, or several as [[products]]; correct it, or write it anew with --replace." in done.stderr
    assert type_("--yes", "--replace", *ANSWERS, *keys(tmp_path)).exit_code == 0
    assert config.read(path).provider.id == "example"


def test_a_place_of_a_key_that_is_no_text_is_not_used(type_: Type, tmp_path: Path, slurm: Path) -> None:
    public = str(tmp_path / "etc/ucloud.pub")
    wrong = {"url": "https://cloud.example.org", "refresh_token_file": 5, "public_key_file": public}
    path = existing(tmp_path, slurm, ucloud=wrong)
    assert type_("--yes", "--replace", *keys(tmp_path)).exit_code == 0
    assert config.read(path).ucloud.refresh_token_file == tmp_path / "etc/refresh-token"


def test_a_configuration_that_is_a_link_stays_one(type_: Type, tmp_path: Path, slurm: Path) -> None:
    path, real = existing(tmp_path, slurm), tmp_path / "real.toml"
    path.rename(real)
    path.symlink_to(real)
    assert type_("--yes", "--replace", "--url", "https://new.example.org").exit_code == 0
    assert path.readlink() == real
    assert config.read(real).provider.url == "https://new.example.org"


@pytest.mark.parametrize("kind", ["folder", "pipe", "long"])
def test_what_is_no_file_is_not_replaced_by_one(kind: str, type_: Type, tmp_path: Path) -> None:
    place = tmp_path / ("x" * 300 if kind == "long" else "place")
    if kind != "long":
        place.mkdir() if kind == "folder" else os.mkfifo(place)
    words = ["--config", str(place), "setup", "--yes", "--replace", *ANSWERS, *keys(tmp_path)]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert str(place) in done.stderr
    assert "with --config" in done.stderr


def test_names_that_an_edited_product_has_are_not_proposed_again(type_: Type, tmp_path: Path, slurm: Path) -> None:
    assert type_("--yes", *ANSWERS, *keys(tmp_path)).exit_code == 0
    path = tmp_path / "etc/config.toml"
    path.write_text(path.read_text().replace('partition = "debug"', 'partition = "other"'))
    done = type_("--yes", "--replace", "--add-products")
    assert done.exit_code == 0, done.output
    assert len({product.id for product in config.read(path).products}) == 9


def test_a_folder_of_drafts_that_others_can_change_gets_no_token(
    type_: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, how: how != os.W_OK or str(path) != str(tmp_path))
    drafts = tmp_path / files.DRAFTS
    drafts.mkdir()
    drafts.chmod(0o777)
    done = type_("--yes", *ANSWERS, *keys(tmp_path))
    assert done.exit_code == 1
    assert done.stderr.startswith(f"ucloud-slurm: {drafts} is not a folder that only ")
    assert [*drafts.iterdir()] == []
    drafts.chmod(0o755)
    assert type_("--yes", *ANSWERS, *keys(tmp_path)).exit_code == 0


def test_a_key_that_does_not_exist_is_named_when_it_is_replaced_too(type_: Type, tmp_path: Path, slurm: Path) -> None:
    path = existing(tmp_path, slurm, jobs={"colour": "red"})
    before = everything(tmp_path)
    done = type_("--yes", "--replace")
    assert done.exit_code == 78
    assert "jobs.colour is not a key that exists" in done.stderr
    assert everything(tmp_path) == before
    assert path.exists()


def test_a_half_installed_state_is_completed(type_: Type, tmp_path: Path, slurm: Path) -> None:
    path = existing(tmp_path, slurm)
    (path.parent / "refresh-token").unlink()
    assert "there must be --token-file" in type_("--yes").stderr
    done = type_("--yes", "--token-file", str(tmp_path / "token"))
    assert done.exit_code == 0, done.output
    assert config.read(path).ucloud.refresh_token() == TOKEN


def test_an_answer_of_no_writes_nothing(type_: Type, tmp_path: Path) -> None:
    done = type_(*ANSWERS, *keys(tmp_path), stdin="\n" * 6 + "n\n")
    assert done.exit_code == 1
    assert done.stderr == f"ucloud-slurm: {tmp_path}/etc/config.toml was not written.\n"
    assert not (tmp_path / "etc").exists()


def test_a_disk_that_is_full_leaves_the_old_file(
    type_: Type, tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing(tmp_path, slurm)
    before = everything(tmp_path)

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = type_("--yes", "--replace", "--url", "https://new.example.org")
    assert done.exit_code == 1
    assert "cannot be written (No space left on device); nothing in it has changed." in done.stderr
    assert everything(tmp_path) == before


# ---- root


def test_apply_does_what_can_be_done_here(type_: Type, tmp_path: Path, here: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda *_arguments: None)
    done = type_("--yes", "--apply", *ANSWERS, *keys(tmp_path))
    assert done.exit_code == 0, done.output
    assert "+ The account ucloud-slurm and its folders" in done.output
    assert [line for line in here.commands if "certbot" in line or "products sync" in line] == []


def test_a_step_that_fails_is_named_and_the_others_are_done(
    type_: Type, tmp_path: Path, here: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda *_arguments: None)
    here.fails = "AdminLevel=Operator"
    done = type_("--yes", "--apply", *ANSWERS, *keys(tmp_path))
    assert done.exit_code == 1
    assert done.stderr == "ucloud-slurm: ucloud-slurm is an Operator of Slurm: ended with 1: it is broken\n"
    assert "+ The units are enabled and run" in done.output
    assert config.read(tmp_path / "etc/config.toml").provider.id == "example"


def test_apply_needs_root_and_says_so_before_it_asks(type_: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = type_("--apply")
    assert done.exit_code == 1
    assert done.stderr == (
        "ucloud-slurm: --apply needs root: sudo ucloud-slurm setup --apply; without it setup prints the commands.\n"
    )
    assert not (tmp_path / "etc").exists()


def test_without_root_the_files_are_drafts_and_the_commands_install_them(
    type_: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)
    done = type_("--yes", *ANSWERS, *keys(tmp_path))
    assert done.exit_code == 0, done.output
    drafts = tmp_path / files.DRAFTS
    assert {path.name for path in drafts.iterdir()} == {"config.toml", "refresh-token", "ucloud.pub"}
    assert not (tmp_path / "etc").exists()
    assert (
        f"install -D -m 0600 -o ucloud-slurm -g ucloud-slurm {drafts}/refresh-token {tmp_path}/etc/refresh-token" in done.output
    )
    assert (
        tomllib.loads((drafts / "config.toml").read_text())["ucloud"]["refresh_token_file"] == f"{tmp_path}/etc/refresh-token"
    )


def test_a_configuration_that_may_not_be_read_is_a_sentence(
    type_: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def closed(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", closed)
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: pwd.struct_passwd(("ada", "x", 1, 1, "", "/", "/bin/sh")))
    words = ["--config", str(tmp_path / "etc/config.toml"), "setup"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert done.stderr == f"ucloud-slurm: {tmp_path}/etc cannot be read by ada; run setup as root.\n"


def test_the_guide_needs_ten_commands_at_most_and_their_options_exist() -> None:
    section = install_section()
    assert 0 < len(install_commands()) <= 10
    options = {option for parameter in setup.params if isinstance(parameter, click.Option) for option in parameter.opts}
    named = {word for line in section.splitlines() if "ucloud-slurm setup" in line for word in re.findall(r"--[a-z-]+", line)}
    named |= set(re.findall(r"``(--[a-z-]+)", section))
    assert len(named) > 10
    assert named - options == set()


def test_every_question_has_an_option(type_: Type) -> None:
    options = {option for parameter in setup.params if isinstance(parameter, click.Option) for option in parameter.opts}
    assert {question.option for question in QUESTIONS} <= options
    assert type_("--help").exit_code == 0
